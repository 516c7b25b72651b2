/* SPDX-License-Identifier: Apache-2.0 */
/* One signalfd. A signal that came before it was opened ends the process as usual. */
#include "clients/tool/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

int knit_tool_open_interrupt(const struct knit_tool *tool, struct knit *k, int *ret_fd)
{
    sigset_t interrupt;
    struct knit_error error;
    int fd;

    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, NULL);
    fd = signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd >= 0 && knit_fd(k) >= 0) {
        *ret_fd = fd;
        return KNIT_TOOL_OK;
    }
    knit_tool_own_error(&error, KNIT_INTERNAL,
        "cannot wait for an outcome, so nothing was called: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return knit_tool_report(tool, &error);
}

bool knit_tool_is_interrupted(int interrupt_fd)
{
    struct signalfd_siginfo info;

    return read(interrupt_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}
