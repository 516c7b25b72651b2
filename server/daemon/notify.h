/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager what the daemon does (sd_notify(3)). Without $NOTIFY_SOCKET nothing is
 * sent, and a manager that does not take it is not waited for.
 */
#pragma once

/* One or several lines NAME=value, as READY=1. */
void knit_notify(const char *state);
