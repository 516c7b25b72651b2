/* SPDX-License-Identifier: Apache-2.0 */
/* The attacks of a caller of another uid. Each opens and closes its own sessions, does only what
 * its session's memory and descriptors allow, and prints on stdout what it did. The program that
 * starts it checks whether others were affected.
 *
 * Returns false, with a line on stdout, when something was granted that must be refused, or when
 * an attacker was still served.
 */
#pragma once

#include <stdbool.h>

#include "tests/support/random.h"
#include "tests/system/hostile/attached.h"

struct knit_attack {
    const char *name;
    bool (*run)(const struct knit_target *target, struct knit_random *random);
};

/* attack_memory.c: any value at any place that may be written. */
bool knit_attack_scribble(const struct knit_target *target, struct knit_random *random);
bool knit_attack_cells(const struct knit_target *target, struct knit_random *random);
bool knit_attack_payloads(const struct knit_target *target, struct knit_random *random);
bool knit_attack_changing(const struct knit_target *target, struct knit_random *random);
bool knit_attack_flipping(const struct knit_target *target, struct knit_random *random);
bool knit_attack_greed(const struct knit_target *target, struct knit_random *random);
bool knit_attack_leave(const struct knit_target *target, struct knit_random *random);

/* attack_bell.c: waiting without sleeping, notifying without calling. */
bool knit_attack_false_arms(const struct knit_target *target, struct knit_random *random);
bool knit_attack_full_bell(const struct knit_target *target, struct knit_random *random);
bool knit_attack_notifying(const struct knit_target *target, struct knit_random *random);
bool knit_attack_requeue(const struct knit_target *target, struct knit_random *random);

/* attack_descriptor.c: what the kernel allows with the descriptors. */
bool knit_attack_holes(const struct knit_target *target, struct knit_random *random);
bool knit_attack_punch(const struct knit_target *target, struct knit_random *random);
bool knit_attack_rights(const struct knit_target *target, struct knit_random *random);
bool knit_attack_surplus(const struct knit_target *target, struct knit_random *random);
bool knit_attack_quota(const struct knit_target *target, struct knit_random *random);
