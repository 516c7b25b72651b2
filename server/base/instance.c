/* SPDX-License-Identifier: Apache-2.0 */
/* 128 bits: nobody meets the same name twice. */
#include "server/base/instance.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

int knit_instance_make(struct knit_instance *instance)
{
    uint8_t bytes[(sizeof(instance->text) - 1) / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        return -errno;
    for (size_t i = 0; i < sizeof(bytes); i++)
        (void)snprintf(instance->text + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}
