/* SPDX-License-Identifier: Apache-2.0 */
/* Names are what `$/hello` shows; they are not parsed anywhere. */
#include "server/policy/principal.h"

#include <stdio.h>
#include <unistd.h>

void knit_principal_name(
    const struct knit_principal *principal, char ret_name[KNIT_PRINCIPAL_NAME_MAX])
{
    if (principal->kind == KNIT_PRINCIPAL_LOCAL)
        (void)snprintf(ret_name, KNIT_PRINCIPAL_NAME_MAX, "uid:%u", (unsigned)principal->uid);
    else
        (void)snprintf(ret_name, KNIT_PRINCIPAL_NAME_MAX, "anonymous");
}

bool knit_principal_is_operator(const struct knit_principal *principal)
{
    return principal->kind == KNIT_PRINCIPAL_LOCAL &&
           (principal->uid == 0 || principal->uid == geteuid());
}
