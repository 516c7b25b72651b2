/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of all drivers, and the two simple drivers. */
#include "bench/load_thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/own_pool.h"
#include "bench/ticks.h"

static const char by_type[] = "() -> nil";

/* A fixed seed: two runs make the same calls in the same order. */
enum { SEED = 1, SECOND_NS = 1000000000 };

/* ---- connections ----------------------------------------------------------------------------- */

/* Its prepared calls go with the session. */
static bool open_link(struct knit_load_thread *thread, struct knit_load_link *link,
    const struct knit_open_options *options)
{
    const struct knit_mix *mix = thread->load->mix;
    int code = knit_load_open(thread->load, options, &link->session, &thread->error);

    for (uint32_t i = 0; thread->load->is_prepared && i < mix->count && code == KNIT_OK; i++)
        code = knit_prepare(link->session, &thread->error, mix->tasks[i].name,
            thread->load->is_typed ? by_type : NULL, &link->prepared[i]);
    if (code != KNIT_OK)
        knit_load_count_error(thread, thread->error.message);
    return code == KNIT_OK;
}

bool knit_load_thread_open(struct knit_load_thread *thread)
{
    const struct knit_load *load = thread->load;
    const struct knit_open_options options = {
        .slots = thread->per_link,
        .no_spin = load->no_spin,
        .would_block = true,
        .name = "knit-bench",
    };
    thread->links = calloc(thread->links_count, sizeof(*thread->links));
    thread->calls = calloc((size_t)thread->links_count * thread->per_link, sizeof(*thread->calls));
    if (thread->links == NULL || thread->calls == NULL ||
        !knit_mix_argument_init(&thread->argument, load->mix, SEED + thread->index)) {
        knit_load_count_error(thread, "out of memory");
        return false;
    }
    for (uint32_t i = 0; i < thread->links_count; i++) {
        struct knit_load_link *link = &thread->links[i];
        link->thread = thread;
        for (uint32_t c = 0; c < thread->per_link; c++) {
            struct knit_load_call *call = &thread->calls[(size_t)i * thread->per_link + c];
            call->link = link;
            call->next = link->idle;
            link->idle = call;
        }
        if (!open_link(thread, link, &options))
            return false;
    }
    return true;
}

void knit_load_thread_close(struct knit_load_thread *thread)
{
    thread->closing = true;
    for (uint32_t i = 0; thread->links != NULL && i < thread->links_count; i++)
        knit_close(thread->links[i].session);
    free(thread->links);
    free(thread->calls);
    knit_mix_argument_fini(&thread->argument);
}

/* ---- calls ----------------------------------------------------------------------------------- */

void knit_load_count_error(struct knit_load_thread *thread, const char *what)
{
    struct knit_load_figures *figures = &thread->figures;
    if (figures->errors++ == 0)
        snprintf(figures->first_error, sizeof(figures->first_error), "%.*s",
            (int)sizeof(figures->first_error) - 1, what);
}

void knit_load_record(struct knit_load_thread *thread, uint64_t begin, uint64_t end, uint64_t calls)
{
    /* One writer, so it needs no locked increment; another thread reads it. */
    uint64_t finished = atomic_load_explicit(&thread->finished, memory_order_relaxed) + calls;
    uint64_t at;
    atomic_store_explicit(&thread->finished, finished, memory_order_relaxed);
    /* Open loop: calls that were due in the measured time count, however late their outcome. */
    at = thread->load->rate > 0 ? begin : end;
    if (at < thread->from || at >= thread->to)
        return;
    knit_typical_record(&thread->figures.spans, end - begin);
    thread->figures.calls += calls;
}

bool knit_load_goes_on(const struct knit_load_thread *thread, uint64_t now)
{
    return now < thread->to && thread->next_number < thread->count_max;
}

static void count_failure(struct knit_load_thread *thread, int code)
{
    char text[KNIT_LOAD_TEXT_MAX];
    snprintf(text, sizeof(text), "%d %s: %.160s", code, knit_error_code_name(code),
        thread->error.message);
    knit_load_count_error(thread, text);
}

static void check(struct knit_load_thread *thread, const struct knit_load_call *call, int error,
    const void *result, size_t len)
{
    if (error != KNIT_OK)
        count_failure(thread, error);
    else if (!knit_mix_check(
                 &thread->argument, call->task, call->number, result, len, thread->load->is_whole))
        knit_load_count_error(thread, "a result that does not belong to its call");
}

int knit_load_start(struct knit_load_thread *thread, struct knit_load_call *call, uint64_t begin)
{
    size_t len;
    const void *params;
    int error;
    call->task = knit_mix_choose(&thread->argument);
    call->number = thread->next_number;
    call->begin = begin;
    params = knit_mix_params(&thread->argument, call->task, call->number, &len);
    if (thread->load->is_prepared)
        error = knit_start_prepared(
            call->link->prepared[call->task], NULL, &call->handle, &thread->error, params, len);
    else
        error = knit_start_raw(call->link->session, NULL, &call->handle, &thread->error,
            thread->load->mix->tasks[call->task].name, params, len);
    if (error == KNIT_WOULD_BLOCK)
        return error;
    thread->next_number++;
    if (error != KNIT_OK) {
        count_failure(thread, error);
        knit_load_record(thread, begin, knit_ticks_now(), 1);
    }
    return error;
}

void knit_load_finish(struct knit_load_thread *thread, struct knit_load_call *call, int error)
{
    const void *result = NULL;
    size_t len = 0;
    if (error == KNIT_OK)
        error = knit_result_raw(call->handle, &thread->error, &result, &len);
    check(thread, call, error, result, len);
    knit_free(call->handle);
    call->handle = NULL;
}

/* ---- drivers --------------------------------------------------------------------------------- */

/* Of params, or by the signature without arguments. */
static int call_once(struct knit_load_thread *thread, uint32_t task, const void *params, size_t len,
    const void **ret_result, size_t *ret_len)
{
    const struct knit_load *load = thread->load;
    const struct knit_load_link *link = &thread->links[0];
    const char *name = load->mix->tasks[task].name;

    if (load->is_typed) {
        *ret_result = "\xc0";
        *ret_len = 1;
        return load->is_prepared ? knit_call_prepared(link->prepared[task], NULL, &thread->error)
                                 : knit_call(link->session, &thread->error, name, by_type);
    }
    if (load->is_prepared)
        return knit_call_prepared(
            link->prepared[task], NULL, &thread->error, params, len, ret_result, ret_len);
    return knit_call_raw(
        link->session, NULL, &thread->error, name, params, len, ret_result, ret_len);
}

static void run_block(struct knit_load_thread *thread)
{
    struct knit_load_call call = {0};
    const void *params, *result;
    size_t len, result_len;
    const uint64_t pause_ns = thread->load->pause_ns;
    const struct timespec pause = {
        .tv_sec = (time_t)(pause_ns / SECOND_NS), .tv_nsec = (long)(pause_ns % SECOND_NS)};
    for (;;) {
        int error;

        if (pause_ns > 0)
            (void)nanosleep(&pause, NULL);
        call.begin = knit_ticks_now();
        if (!knit_load_goes_on(thread, call.begin))
            return;
        call.number = thread->next_number++;
        call.task = knit_mix_choose(&thread->argument);
        params = knit_mix_params(&thread->argument, call.task, call.number, &len);
        error = call_once(thread, call.task, params, len, &result, &result_len);
        knit_load_record(thread, call.begin, knit_ticks_now(), 1);
        check(thread, &call, error, result, result_len);
        if (error == KNIT_DISCONNECTED)
            return;
    }
}

/* Starts a batch and sends it; how many calls it has. */
static uint32_t start_batch(struct knit_load_thread *thread, uint32_t link, uint64_t begin)
{
    struct knit_load_call *calls = &thread->calls[(size_t)link * thread->per_link];
    uint32_t count = 0;
    while (count < thread->load->batch && knit_load_goes_on(thread, begin) &&
           knit_load_start(thread, &calls[count], begin) == KNIT_OK)
        count++;
    if (knit_flush(thread->links[link].session, &thread->error) != KNIT_OK)
        knit_load_count_error(thread, thread->error.message);
    return count;
}

static void run_batch(struct knit_load_thread *thread)
{
    uint32_t *counts = calloc(thread->links_count, sizeof(*counts));
    uint32_t some = 1;
    while (counts != NULL && some > 0 && knit_load_goes_on(thread, knit_ticks_now())) {
        some = 0;
        for (uint32_t i = 0; i < thread->links_count; i++)
            counts[i] = start_batch(thread, i, knit_ticks_now());
        for (uint32_t i = 0; i < thread->links_count; i++) {
            struct knit_load_call *calls = &thread->calls[(size_t)i * thread->per_link];
            uint64_t begin = calls[0].begin;
            for (uint32_t c = 0; c < counts[i]; c++)
                knit_load_finish(
                    thread, &calls[c], knit_await(calls[c].handle, -1, &thread->error));
            if (counts[i] > 0)
                knit_load_record(thread, begin, knit_ticks_now(), counts[i]);
            some += counts[i];
        }
    }
    free(counts);
}

void knit_load_thread_run(struct knit_load_thread *thread)
{
    const struct knit_load *load = thread->load;
    uint64_t begin_ns = knit_ticks_clock_ns();
    if (load->batch > 0)
        run_batch(thread);
    else if (thread->links_count == 1 && load->depth == 1 && load->rate <= 0)
        run_block(thread);
    else
        knit_load_run_poll(thread);
    thread->figures.seconds =
        load->count > 0 ? (double)(knit_ticks_clock_ns() - begin_ns) / 1e9 : (double)load->ns / 1e9;
}
