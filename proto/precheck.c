/* SPDX-License-Identifier: Apache-2.0 */
/* Optional arguments may be left out at the end, so the first byte may be one of several. A last
 * parameter that takes any number, and more parameters than there is room for, fit never.
 */
#include "proto/precheck.h"

#include "proto/signature_private.h"

enum { FIXARRAY = 0x90, PLAIN_HEADS = (2 << KNIT_HEAD_BIN) - 1 };

static uint16_t plain_heads(const struct knit_signature_type *type)
{
    return knit_signature_heads(type) & PLAIN_HEADS;
}

void knit_precheck_init(struct knit_precheck *precheck, const struct knit_signature *signature)
{
    const uint32_t count = signature->param_count;

    *precheck = (struct knit_precheck){0};
    if (count <= KNIT_PRECHECK_PARAMS_MAX && !signature->has_rest) {
        precheck->first = (uint8_t)(FIXARRAY + signature->required);
        precheck->choices = (uint8_t)(count - signature->required + 1);
        for (uint32_t i = 0; i < count; i++)
            precheck->param[i] = plain_heads(&signature->type[i]);
    }
    if (signature->result_count == 1)
        precheck->result = plain_heads(&signature->type[count]);
}
