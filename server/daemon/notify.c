/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol is one datagram to a unix socket, which systemd promises to keep (Portability and
 * Stability Chart). libsystemd is not used: it brings libraries for compression and encryption
 * into the daemon for these messages.
 */
#include "server/daemon/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void read_address(struct knit_notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t len = path != NULL ? strlen(path) : 0;

    if (len < 2 || len >= sizeof(notify->address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, len);
    /* An abstract name, which ends with its length and not with a NUL. */
    if (path[0] == '@')
        notify->address.sun_path[0] = '\0';
    notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

/* The number that a variable holds; 0 where it is none. */
static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);
    unsigned long long number;
    char *end;

    if (text == NULL || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    number = strtoull(text, &end, 10);
    return *end == '\0' && errno == 0 ? number : 0;
}

void knit_notify_init(struct knit_notify *notify)
{
    *notify = (struct knit_notify){0};
    read_address(notify);
    /* It may be meant for the process that started this one. */
    if (getenv("WATCHDOG_PID") == NULL || number_of("WATCHDOG_PID") == (uint64_t)getpid())
        notify->watchdog_us = number_of("WATCHDOG_USEC");
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

void knit_notify_send(const struct knit_notify *notify, const char *lines)
{
    int fd;

    if (notify->address_len == 0)
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT,
        (const struct sockaddr *)&notify->address, notify->address_len);
    (void)close(fd);
}
