/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of this process, so that a forked child gives up its copies of their connections at
 * once. Any thread. A session that was not
 * added may be removed. */
#pragma once

struct knit;

void knit_forks_add(struct knit *k);
void knit_forks_remove(struct knit *k);
