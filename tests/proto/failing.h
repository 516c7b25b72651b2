/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is refused on demand. Programs that use it are linked with --wrap for malloc, calloc
 * and realloc, which sends every allocation of the tested code through here.
 */
#pragma once

/* The nth allocation from now on fails, 1 being the next, and those after it succeed again; 0 =
 * none fails. Gives how many there were since the last call. */
unsigned knit_failing_after(unsigned n);
