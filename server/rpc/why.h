/* SPDX-License-Identifier: Apache-2.0 */
/* `$/why`: whether the policy lets somebody use something, and by which of its lines.
 *
 * Threads: the caller's loop's.
 */
#pragma once

struct knit_caller;
struct knit_message;

void knit_why_handle(struct knit_caller *caller, const struct knit_message *message);
