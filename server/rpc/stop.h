/* SPDX-License-Identifier: Apache-2.0 */
/* `$/stop` and `$/kill`: an operator ends a call of somebody else, by its address.
 *
 * The host asks the call to stop (fastpath/host/stop.h). What an event loop has published and no
 * worker has claimed gets its outcome at once, from that loop.
 *
 * Threads: the loop's.
 */
#pragma once

struct knit_caller;
struct knit_message;

void knit_stop_handle(struct knit_caller *caller, const struct knit_message *message);
void knit_kill_handle(struct knit_caller *caller, const struct knit_message *message);
