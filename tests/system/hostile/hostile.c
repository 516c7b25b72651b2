/* SPDX-License-Identifier: Apache-2.0 */
/* A caller of another uid that breaks the protocol: one attack on a running daemon.
 *
 *     hostile SOCKET UID EPOCH TASK ATTACK
 *
 * becomes UID first, which must not be root's or the daemon's, since these may do more. EPOCH
 * and TASK are the registry's, TASK the number of twice(value: any) -> any for `changing` and
 * `flipping`, of same(value: any) -> any for the others. Exit status 0: the daemon behaved
 * correctly as far as this side can see; 1: it did not.
 */
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/system/hostile/attack.h"

static const struct knit_attack attacks[] = {
    {"scribble", knit_attack_scribble},
    {"cells", knit_attack_cells},
    {"payloads", knit_attack_payloads},
    {"changing", knit_attack_changing},
    {"flipping", knit_attack_flipping},
    {"greed", knit_attack_greed},
    {"leave", knit_attack_leave},
    {"false_arms", knit_attack_false_arms},
    {"full_bell", knit_attack_full_bell},
    {"notifying", knit_attack_notifying},
    {"requeue", knit_attack_requeue},
    {"holes", knit_attack_holes},
    {"punch", knit_attack_punch},
    {"rights", knit_attack_rights},
    {"surplus", knit_attack_surplus},
    {"quota", knit_attack_quota},
};

static uint32_t number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*end != '\0' || text[0] == '-' || value > UINT32_MAX) {
        fprintf(stderr, "hostile: expected a number, not '%s'\n", text);
        exit(2);
    }
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    struct knit_target target;
    struct knit_random random;
    uint32_t uid;

    if (argc != 6) {
        fprintf(stderr, "usage: hostile SOCKET UID EPOCH TASK ATTACK\n");
        return 2;
    }
    uid = number(argv[2]);
    target = (struct knit_target){argv[1], number(argv[3]), number(argv[4])};
    if (uid == 0 || setgroups(0, NULL) != 0 || setgid(uid) != 0 || setuid(uid) != 0) {
        perror("hostile: becoming another user");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    knit_random_init(&random);
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        if (strcmp(attacks[i].name, argv[5]) == 0)
            return attacks[i].run(&target, &random) ? 0 : 1;
    }
    fprintf(stderr, "hostile: no attack is called '%s'\n", argv[5]);
    return 2;
}
