/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that have yet to say who they are, where nobody may call who has not.
 *
 * They may say `$/hello` and `$/ping`. Until one has said who it is it may send and be sent 64 KiB,
 * for ten seconds since it was opened, and there are 256 of them at a time. One more takes the
 * place of the oldest one of the address that has the most: so an address that opens many harms
 * itself alone.
 *
 * Threads: its loop's; each loop has its part of the 256.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/message.h"
#include "server/net/net.h"

/* It has just been opened, or its handshake is over, or nothing is known of it any more since
 * another policy holds. If it is a stranger it is one from now on, and
 * another may be closed for it. */
void knit_strangers_join(struct knit_connection *connection);

/* It is closed, or is none any more. Accepts one that is none. */
void knit_strangers_leave(struct knit_connection *connection);

/* How much more of it may be read; 0: nothing, and it is over. */
size_t knit_strangers_room(const struct knit_connection *connection);

/* It has sent `len` bytes. */
static inline void knit_strangers_count(struct knit_connection *connection, size_t len)
{
    if (connection->is_stranger)
        connection->stranger_bytes += (uint32_t)len;
}

/* It sends more than it may before it says who it is: its end. */
void knit_strangers_drop_sender(struct knit_connection *connection);

/* Whether the message may be brought to its method. Otherwise it is answered. */
bool knit_strangers_admit(struct knit_connection *connection, const struct knit_message *message);

/* Its method was called: it may have said who it is, or has been answered too much. */
void knit_strangers_settle(struct knit_connection *connection);

/* Once a second: ends those whose time is over. */
void knit_strangers_sweep(struct knit_net *net);
