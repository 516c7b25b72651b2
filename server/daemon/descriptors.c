/* SPDX-License-Identifier: Apache-2.0 */
/* The figures are upper bounds and not exact: what is kept too much is a few connections fewer. */
#include "server/daemon/descriptors.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "fastpath/host/pool.h"
#include "server/admin/face.h"
#include "server/config/install_paths.h"

enum {
    FIXED = 40,    /* standard ones, log, epoll, timers, pipes, segments, a worker that starts */
    A_LOOP = 12,   /* epoll, mailbox, session, bells */
    A_WORKER = 5,  /* control socket, three pipes, pidfd */
    A_MODULE = 2,  /* its copy, and once more in a worker that starts; so has the worker program */
    A_SESSION = 8, /* segments and bell, and as many again on their way to the caller */
    LEAST = 24,    /* below this for sessions and connections together nothing is served */
    A_FACE = KNIT_FACE_CONNECTIONS_MAX + 4, /* its connections, listening socket, lock, spare one */
    UNIX_PART = 16, /* of the connections, one of so many is kept for the unix socket */
    UNIX_MOST = 64,
};

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int count_modules(
    const struct knit_settings *settings, uint64_t *ret_count, struct knit_sentence *why)
{
    char **modules = NULL;
    uint64_t count = 0;
    int r =
        knit_install_paths_find_modules(&settings->modules, settings->modules_root, &modules, why);

    while (r == 0 && modules[count] != NULL)
        count++;
    knit_install_paths_free(modules);
    *ret_count = count;
    return r;
}

void knit_descriptors_raise(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int knit_descriptors_deal(const struct knit_settings *settings,
    struct knit_descriptors *ret_descriptors, struct knit_sentence *why)
{
    bool has_socket = settings->socket == NULL || strcmp(settings->socket, "none") != 0;
    bool has_face = settings->admin != NULL && strcmp(settings->admin, "none") != 0;
    struct knit_host_options pool;
    struct rlimit limit;
    uint64_t modules, reserve, rest, sessions, connections;
    int r = count_modules(settings, &modules, why);

    if (r != 0)
        return r;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return knit_sentence_set(
            why, -errno, "cannot read the limit of open files: %s", strerror(errno));
    knit_host_options_init(&pool);
    reserve = FIXED + settings->listen.count + settings->listen_tls.count +
              A_LOOP * settings->threads_io + A_WORKER * settings->workers +
              A_MODULE * (modules + 1) + (has_face ? A_FACE : 0);
    if (limit.rlim_cur < reserve + LEAST)
        return knit_sentence_set(why, -EMFILE,
            "at most %llu files may be open (ulimit -n), and %llu workers, %llu event loops and "
            "the modules need %llu: raise the limit or lower workers",
            (unsigned long long)limit.rlim_cur, (unsigned long long)settings->workers,
            (unsigned long long)settings->threads_io, (unsigned long long)(reserve + LEAST));
    rest = limit.rlim_cur - reserve;
    sessions = has_socket ? least(pool.sessions_max, rest / 2 / A_SESSION) : 0;
    connections = least(settings->max_connections, rest - A_SESSION * sessions);
    *ret_descriptors = (struct knit_descriptors){.files = limit.rlim_cur,
        .connections_max = connections,
        .tcp_max =
            has_socket ? connections - least(connections / UNIX_PART, UNIX_MOST) : connections,
        .sessions_max = (uint32_t)sessions};
    return 0;
}
