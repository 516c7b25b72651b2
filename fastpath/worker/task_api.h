/* SPDX-License-Identifier: Apache-2.0 */
/* The table of functions that tasks call (struct knit_api of the module ABI): arguments, values,
 * results, errors, abort.
 *
 * Threads: the worker's main thread, but for what task.h says of knit_aborted() and knit_now_ns().
 */
#pragma once

#include <knitting/module.h>

/* The table that is handed to modules. */
const struct knit_api *knit_task_api(void);
