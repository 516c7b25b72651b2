/* SPDX-License-Identifier: Apache-2.0 */
/* Signals are blocked before the thread is there: it has the mask of the one that makes it. */
#include "server/base/quiet_thread.h"

#include <signal.h>

int knit_quiet_thread_start(
    const char *name, void *(*run)(void *arg), void *arg, pthread_t *ret_thread)
{
    pthread_t thread;
    sigset_t all, before;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, NULL, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    (void)pthread_setname_np(thread, name);
    *ret_thread = thread;
    return 0;
}
