/* SPDX-License-Identifier: Apache-2.0 */
/* Raw arguments that are no msgpack, or not what is carried. */
#pragma once

#include <knitting/knitting.h>

/* Fails the test unless each is refused as the same, whoever refuses it. The session has the task
 * echo(value: any). */
void knit_client_malformed(struct knit *k);
