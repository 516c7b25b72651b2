/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a session whose connection is lost: a part of <knitting/knitting.h>.
 *
 * A session whose connection is lost opens another one to the same URL by itself, with shm:// it
 * attaches again: at once, then after pauses that grow from 50 ms to 5 s, for as long as the
 * session is open. No thread does it: every function that waits or dispatches takes the steps, and
 * knit_fd() becomes readable when one is due. Names of hosts are looked up again each time.
 *
 * Calls that were sent end in KNIT_DISCONNECTED, and `started` is unknown. Those that were
 * certainly not started wait for the other connection and are sent there, as are calls that begin
 * meanwhile: until their own time is over, for connect_ms from the loss on, and 4 MiB of arguments.
 * Then they end in KNIT_DISCONNECTED, `started` no, and later calls end so at once, while attempts
 * go on. A call with queue_ms 0 does not wait. Notifications that were not sent are lost, and
 * refused while there is no connection. Results stay where they are; prepared calls find their
 * tasks anew.
 *
 * A URL may name several daemons, and a name of a host may have several addresses, which are looked
 * up again every 30 s; of all places and addresses 32 count, and those beyond when one of these is
 * gone. Then up to 4 connections take calls, each to another daemon (<knitting/spread_options.h>):
 * of two by chance the one with fewer calls in flight for its number of workers, of which a daemon
 * is believed to have 16 times the other's at most. Calls with one key go to one daemon, and a call
 * with arguments in flight to theirs if it can. A daemon fails when it cannot be connected, ends
 * connections at once, or has calls and says nothing for a while; after three failures in a row
 * calls go elsewhere for a second, twice as long each time, up to a minute, until it answers again.
 * No more than half of the daemons are left out so. What is lost concerns one connection alone as
 * long as another one is there: calls go on with that at once, and results, references and
 * cancelling keep to their own. With `stays_lost` there is one connection.
 *
 * A daemon that shuts down says so first. Calls that it has by then go on there, while the next
 * connection is opened beside, which takes the later ones. With shm:// it is opened when they are
 * over; meanwhile calls wait for that. One that met the daemon's word on its way ends in
 * KNIT_DRAINING, `started` no: <knitting/retry.h> makes it again.
 *
 * With `stays_lost` every call ends, and every function fails, with KNIT_DISCONNECTED.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

enum knit_state {
    KNIT_IS_OPEN = 0,       /* there is a connection */
    KNIT_IS_CONNECTING = 1, /* it was lost, and another one is being opened */
    KNIT_IS_DRAINING = 2,   /* that daemon shuts down and has calls of this session */
    KNIT_IS_LOST = 3,       /* it was lost and stays so; or the session is a parent's */
};

struct knit;

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Returns how the session was found to be in the last function that waited or dispatched. Does not
 * block. */
enum knit_state knit_state(struct knit *k);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
