/* SPDX-License-Identifier: Apache-2.0 */
/* Which events a connection waits for. Its output event is apart from these: it is pending while
 * the socket takes no more.
 *
 * Threads: its loop's.
 */
#pragma once

#include "server/net/net.h"

/* Without an event a connection would never be closed, so if it cannot be had the connection
 * ends. */
void knit_interest_set(struct knit_connection *connection, enum knit_interest wanted);
