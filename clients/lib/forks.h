/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions of this process, so that a forked child gives up its copies of their connections at
 * once. Any thread. A session that was not
 * added may be removed. */
#pragma once

#include <stdint.h>

struct knit;

void knit_forks_add(struct knit *k);
void knit_forks_remove(struct knit *k);

/* A page whose first byte is 1, and 0 in a forked child. NULL: it cannot be had. */
uint8_t *knit_forks_new_page(void);
void knit_forks_free_page(uint8_t *page); /* NULL is allowed */
