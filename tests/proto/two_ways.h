/* SPDX-License-Identifier: Apache-2.0 */
/* The message at the front of some bytes, taken in one walk and by scanner and parser. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/scan.h"

/* Whether both ways say the same. *ret_taken = what knit_plain_take() returned; the scan, which is
 * at the beginning of a message, has been fed all the bytes: *ret_scanned = what it returned,
 * *ret_used = how many bytes it used. */
bool two_ways_agree(struct knit_scan *scan, const uint8_t *bytes, size_t len, size_t *ret_taken,
    int *ret_scanned, size_t *ret_used);
