/* SPDX-License-Identifier: Apache-2.0 */
/* Short messages from one thread to another, through a pipe: there is no lock, and an event loop
 * can wait for them. A message is far shorter than PIPE_BUF, so it arrives whole or not at all.
 *
 * Threads: any number may send, one receives.
 * Limits: what a pipe holds, 4,096 messages; sending to a full one fails at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

enum knit_mailbox_kind {
    /* To an event loop. */
    KNIT_MAILBOX_CONNECTION, /* fd, value = enum knit_listener_kind; the loop owns fd now */
    KNIT_MAILBOX_DRAIN,      /* value = ms until FINISH at the latest; again, with 0: hurry */
    KNIT_MAILBOX_FINISH,     /* deliver what there is, close everything, end */
    KNIT_MAILBOX_EVICTED,    /* value = id of the session whose connection must end */
    KNIT_MAILBOX_RECHECK,    /* callers may not be any more who they said they are */
    KNIT_MAILBOX_OUTCOMES,   /* of calls that other loops run have come */
    KNIT_MAILBOX_CALLS,      /* list your calls; value = ticket. Back: they are listed */
    KNIT_MAILBOX_RELOADED,   /* value = the last ticket of `$/reload` that this answers */
    KNIT_MAILBOX_STOP,       /* value = slot << KNIT_LOOP_GEN_BITS | generation, of a call */
    KNIT_MAILBOX_LISTED,     /* the same of `$/calls` and `$/sessions` */
    KNIT_MAILBOX_TURN,       /* turn: the main thread wants to see it */
    /* To the main thread. */
    KNIT_MAILBOX_ASKED,    /* `$/drain` came */
    KNIT_MAILBOX_RELOAD,   /* value = loop << 32 | ticket of its `$/reload` */
    KNIT_MAILBOX_LIST,     /* the same of its `$/calls` or `$/sessions` */
    KNIT_MAILBOX_DRAINS,   /* this loop takes no more calls */
    KNIT_MAILBOX_FINISHED, /* this loop's thread ends */
};

struct knit_mailbox_message {
    uint32_t kind; /* enum knit_mailbox_kind */
    int32_t fd;    /* -1 = none */
    uint64_t value;
};

struct knit_mailbox {
    int read_fd; /* -1 = closed */
    int write_fd;
};

/* Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_mailbox_open(struct knit_mailbox *mailbox);

/* Closes descriptors that are still in messages. Accepts a closed one. */
void knit_mailbox_close(struct knit_mailbox *mailbox);

/* False when the mailbox is full: the message was not sent. */
bool knit_mailbox_send(struct knit_mailbox *mailbox, struct knit_mailbox_message message);

/* The same to one that is full for moments only, as a loop's may be while thousands of connections
 * wait in it: waits until there is room, for seconds at most. */
void knit_mailbox_send_surely(struct knit_mailbox *mailbox, struct knit_mailbox_message message);

/* False when there is none. */
KNIT_MUST_CHECK bool knit_mailbox_receive(
    struct knit_mailbox *mailbox, struct knit_mailbox_message *ret_message);
