/* SPDX-License-Identifier: Apache-2.0 */
/* Sees that files which settings name have changed, and has them read again (reload.h): where those
 * who write them cannot tell the daemon, as whoever renews certificates in a cluster.
 *
 * It asks for each file now and then (reload_check_s) in place of waiting for events of its folder:
 * what is mounted there is replaced in ways of its own (a link to a link to a folder is exchanged),
 * and some file systems have no events. A change counts when the files look the same twice in a
 * row, so that one which is being written, or a certificate whose key is not there yet, is not
 * read.
 *
 * Threads: the main thread's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/base/siphash.h"
#include "server/config/setting.h"

struct event;
struct event_base;

struct knit_file_watch {
    const struct knit_settings *settings;
    struct knit_digest read; /* how the files looked when they were read */
    struct knit_digest last; /* when they were last looked at */
    struct event *event;     /* or NULL: it is not started */
    void (*on_change)(void *arg);
    void *arg;
};

/* Before they are read for the first time, so that no change falls in between. */
void knit_file_watch_init(struct knit_file_watch *watch, const struct knit_settings *settings);
/* Calls on_change() after each change, unless the setting says that nobody looks. Returns 0 or
 * -ENOMEM. */
KNIT_MUST_CHECK int knit_file_watch_start(struct knit_file_watch *watch, struct event_base *base,
    void (*on_change)(void *arg), void *arg);
/* Before the base is freed. Accepts one that is not started. */
void knit_file_watch_stop(struct knit_file_watch *watch);

/* One look, as each that the timer has made. Returns whether there is a change to be read. */
KNIT_MUST_CHECK bool knit_file_watch_look(struct knit_file_watch *watch);
