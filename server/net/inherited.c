/* SPDX-License-Identifier: Apache-2.0 */
/* A socket is found by the address that it is bound to. Flags that belong to the open file are set
 * again, for systemd passes sockets that block; listener.c has what others do to them later.
 */
#include "server/net/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"

#define REFUSED KNIT_INHERITED_E_REFUSED

enum { FIRST_FD = 3 }; /* of $LISTEN_FDS */

static int option(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool is_listener(int fd)
{
    int domain = option(fd, SO_DOMAIN);

    return option(fd, SO_TYPE) == SOCK_STREAM && option(fd, SO_ACCEPTCONN) == 1 &&
           (domain == AF_INET || domain == AF_INET6 || domain == AF_UNIX);
}

static bool set_flags(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static bool is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

int knit_inherited_add(struct knit_inherited *inherited, int fd, struct knit_sentence *why)
{
    struct stat status;

    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        int *place = is_sealed(fd) ? &inherited->tickets_fd : &inherited->lock_fd;

        if (*place < 0) {
            *place = fd;
            return 0;
        }
    }
    if (!is_listener(fd) || !set_flags(fd) || inherited->count >= KNIT_INHERITED_MAX) {
        (void)close(fd);
        return knit_sentence_set(
            why, REFUSED, "descriptor %d, which was handed over, is no listening socket", fd);
    }
    inherited->fds[inherited->count++] = fd;
    return 0;
}

/* The number that a variable holds, or -1. */
static long number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    long number;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return -1;
    number = strtol(text, &end, 10);
    return *end == '\0' ? number : -1;
}

/* The name at that place of a list with colons between. */
static bool is_named(const char *names, size_t place, const char *name)
{
    for (; place > 0 && names != NULL; place--) {
        names = strchr(names, ':');
        if (names != NULL)
            names++;
    }
    return names != NULL && strcspn(names, ":") == strlen(name) &&
           strncmp(names, name, strlen(name)) == 0;
}

bool knit_inherited_are_passed(void)
{
    /* They may be meant for the process that started this one. */
    return number_of("LISTEN_PID") == getpid() && number_of("LISTEN_FDS") > 0;
}

int knit_inherited_from_environment(struct knit_inherited *inherited, struct knit_sentence *why)
{
    long count = number_of("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    int r = 0;

    if (!knit_inherited_are_passed())
        return 0;
    if (count > KNIT_INHERITED_MAX)
        return knit_sentence_set(
            why, REFUSED, "$LISTEN_FDS: at most %d sockets, not %ld", KNIT_INHERITED_MAX, count);
    inherited->is_all = true;
    for (int i = 0; r == 0 && i < count; i++) {
        r = knit_inherited_add(inherited, FIRST_FD + i, why);
        if (r == 0 && (inherited->lock_fd >= 0 || inherited->tickets_fd >= 0))
            r = knit_sentence_set(
                why, REFUSED, "descriptor %d, which was handed over, is a file", FIRST_FD + i);
        if (r == 0)
            inherited->is_tls[inherited->count - 1] = is_named(names, (size_t)i, "tls");
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return r;
}

static int take(struct knit_inherited *inherited, size_t place)
{
    int fd = inherited->fds[place];

    inherited->fds[place] = -1;
    return fd;
}

int knit_inherited_take_tcp(struct knit_inherited *inherited, const struct knit_endpoint *endpoint)
{
    for (size_t i = 0; i < inherited->count; i++) {
        struct knit_endpoint bound;

        if (inherited->fds[i] >= 0 && knit_endpoint_of(inherited->fds[i], &bound) == 0 &&
            knit_endpoint_answers(&bound, endpoint))
            return take(inherited, i);
    }
    return -1;
}

int knit_inherited_take_unix(struct knit_inherited *inherited, const char *path)
{
    for (size_t i = 0; i < inherited->count; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNSPEC};
        socklen_t len = sizeof(address) - 1; /* so that the path ends with a NUL */

        if (inherited->fds[i] >= 0 &&
            getsockname(inherited->fds[i], (struct sockaddr *)&address, &len) == 0 &&
            address.sun_family == AF_UNIX && strcmp(address.sun_path, path) == 0)
            return take(inherited, i);
    }
    return -1;
}

void knit_inherited_close(struct knit_inherited *inherited)
{
    for (size_t i = 0; i < inherited->count; i++)
        if (inherited->fds[i] >= 0)
            (void)close(inherited->fds[i]);
    knit_fd_close(&inherited->lock_fd);
    knit_fd_close(&inherited->tickets_fd);
    *inherited = (struct knit_inherited)KNIT_INHERITED_INIT;
}
