/* SPDX-License-Identifier: Apache-2.0 */
/* Gearman through a gearmand of one's own, with one thread: foreground jobs of one function, served
 * by a worker process of libgearman. */
#include <libgearman/gearman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/peers/peer.h"

#define FUNCTION "echo"

enum { WAIT_MS = 10000 };

static gearman_client_st client;

/* ---- the worker ------------------------------------------------------------------------------ */

static gearman_return_t echo(gearman_job_st *job, void *arg)
{
    (void)arg;
    return gearman_job_send_complete(
        job, gearman_job_workload(job), gearman_job_workload_size(job));
}

static void serve(void)
{
    char port[PEER_TEXT_MAX];
    gearman_worker_st worker;

    peer_hear(port);
    if (gearman_worker_create(&worker) == NULL)
        return;
    (void)gearman_worker_add_server(&worker, "127.0.0.1", (in_port_t)strtoul(port, NULL, 10));
    (void)gearman_worker_define_function(
        &worker, FUNCTION, strlen(FUNCTION), gearman_function_create(echo), 0, NULL);
    while (gearman_success(gearman_worker_work(&worker)))
        ;
}

/* ---- the caller ------------------------------------------------------------------------------ */

static uint32_t answers;

static gearman_return_t on_complete(gearman_task_st *task)
{
    answers++;
    peer_done((uint32_t)(uintptr_t)gearman_task_context(task), gearman_task_data(task),
        gearman_task_data_size(task));
    return GEARMAN_SUCCESS;
}

static void open_calls(const struct peer_options *options)
{
    uint16_t port = peer_free_port();
    char text[8];

    if (options->server == NULL)
        peer_fail("needs the gearmand");
    (void)snprintf(text, sizeof(text), "%u", port);
    peer_fork(serve);
    peer_start_server((char *[]){(char *)options->server, "--listen=127.0.0.1", "--port", text,
                          "--threads=1", "--log-file=stderr", NULL},
        port);
    peer_tell(text);
    if (gearman_client_create(&client) == NULL ||
        gearman_failed(gearman_client_add_server(&client, "127.0.0.1", port)))
        peer_fail("no client");
    gearman_client_add_options(&client, GEARMAN_CLIENT_NON_BLOCKING | GEARMAN_CLIENT_FREE_TASKS);
    gearman_client_set_complete_fn(&client, on_complete);
    gearman_client_set_timeout(&client, WAIT_MS);
}

static void send_call(uint32_t call, const void *bytes, size_t len)
{
    gearman_return_t result;

    if (gearman_client_add_task(
            &client, NULL, (void *)(uintptr_t)call, FUNCTION, NULL, bytes, len, &result) == NULL)
        peer_fail(gearman_strerror(result));
}

static void wait_calls(void)
{
    uint32_t before = answers;

    while (answers == before) {
        gearman_return_t result = gearman_client_run_tasks(&client);

        if (answers == before && result == GEARMAN_IO_WAIT)
            result = gearman_client_wait(&client);
        if (gearman_failed(result) && result != GEARMAN_IO_WAIT)
            peer_fail(gearman_client_error(&client));
    }
}

static void close_calls(void)
{
    gearman_client_free(&client);
}

const struct peer peer = {"gearmand", open_calls, send_call, wait_calls, close_calls};
