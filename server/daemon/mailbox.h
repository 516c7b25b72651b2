/* SPDX-License-Identifier: Apache-2.0 */
/* Short letters from one thread to another, through a pipe: no lock, and an event loop can wait
 * for them. A letter is far shorter than PIPE_BUF, so it arrives whole or not at all.
 *
 * Threads: any number may send, one receives.
 * Limits: what a pipe holds, 4,096 letters; sending to a full one fails at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum knit_letter_kind {
    /* To an event loop. */
    KNIT_LETTER_CONNECTION, /* fd, value = it is a unix socket; the loop owns fd now */
    KNIT_LETTER_DRAIN,      /* value = ms until FINISH at the latest */
    KNIT_LETTER_FINISH,     /* deliver what there is, close everything, end */
    KNIT_LETTER_CONDEMNED,  /* value = id of the session whose connection must end */
    /* To the main thread. */
    KNIT_LETTER_DRAINS,   /* this loop takes no more calls */
    KNIT_LETTER_FINISHED, /* this loop's thread ends */
};

struct knit_letter {
    uint32_t kind; /* enum knit_letter_kind */
    int32_t fd;    /* -1 = none */
    uint64_t value;
};

struct knit_mailbox {
    int read_fd; /* -1 = closed */
    int write_fd;
};

/* Returns 0 or -errno. */
int knit_mailbox_open(struct knit_mailbox *mailbox);

/* Closes descriptors that are still in letters. Accepts a closed one. */
void knit_mailbox_close(struct knit_mailbox *mailbox);

/* False when the mailbox is full: the letter was not sent. */
bool knit_mailbox_send(struct knit_mailbox *mailbox, struct knit_letter letter);

/* False when there is none. */
bool knit_mailbox_receive(struct knit_mailbox *mailbox, struct knit_letter *ret_letter);
