/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a row of puts: for the fuzz target and for random values. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/build.h>

/* Puts what the bytes say until they end, or something is wrong; then nils until all containers are
 * complete, where that is possible. */
void builder_program_run(struct knit_builder *builder, const uint8_t *bytes, size_t len);
