/* SPDX-License-Identifier: Apache-2.0 */
/* A signature, then after a newline the bytes of params. Oracle: canonical text parses to itself;
 * what a signature accepts is well-formed; arguments lie one behind the other; what is no call's
 * signature is no task's either, unless it ends in `...`; what the check by heads lets pass, the
 * full check does too; what is malformed is so at the same byte as knit_check_value() has it, and
 * in an argument that exists.
 */
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/signature.h"
#include "tests/fuzz/target.h"
#include "tests/proto/checks.h"

static void reparse(const struct knit_signature *signature)
{
    const char *text = knit_signature_text(signature);
    struct knit_signature *again = NULL;

    KNIT_FUZZ_CHECK(knit_signature_is_name(
        knit_signature_name(signature), strlen(knit_signature_name(signature))));
    /* Blanks that the canonical text puts in may take it beyond the limit. */
    if (strlen(text) > KNIT_SIGNATURE_BYTES_MAX)
        return;
    KNIT_FUZZ_CHECK(knit_signature_parse(text, strlen(text), &again, NULL) == 0);
    KNIT_FUZZ_CHECK(strcmp(knit_signature_text(again), text) == 0);
    knit_signature_free(again);
}

/* A library that checks params before it sends them says what a worker does. */
static void compare_flaws(const uint8_t *bytes, size_t len)
{
    struct knit_signature_mismatch why;
    struct knit_check_flaw flaw;
    struct knit_head head;
    int r, checked;

    if (knit_head_read(bytes, len, &head) != 0 || head.type != KNIT_HEAD_ARRAY)
        return;
    checked = knit_check_value(bytes, len, KNIT_DEPTH_MAX, &flaw);
    r = knit_signature_check(NULL, bytes, len, NULL, &why);
    KNIT_FUZZ_CHECK((r == 0) == (checked == 0));
    KNIT_FUZZ_CHECK((r == KNIT_SIGNATURE_E_TOO_DEEP) == (checked == KNIT_CHECK_E_TOO_DEEP));
    KNIT_FUZZ_CHECK(r == 0 || why.offset == flaw.offset);
    KNIT_FUZZ_CHECK(r == 0 || why.is_whole || why.index < head.value);
}

static void check(const struct knit_signature *signature, const uint8_t *bytes, size_t len)
{
    struct knit_signature_mismatch why;
    struct knit_signature_args args;
    char text[200];
    uint32_t at, i;

    if (knit_signature_check(signature, bytes, len, &args, &why)) {
        KNIT_FUZZ_CHECK(knit_signature_explain(&why, false, text, sizeof(text)) > 0);
    } else {
        KNIT_FUZZ_CHECK(knit_check_value(bytes, len, KNIT_DEPTH_MAX, NULL) == 0);
        for (i = 0; i < args.count && i < KNIT_SIGNATURE_PARAMS_MAX; i++) {
            at = i == 0 ? args.arg[0].off : args.arg[i - 1].off + args.arg[i - 1].len;
            KNIT_FUZZ_CHECK(args.arg[i].off == at && at + args.arg[i].len <= len);
        }
    }
    compare_flaws(bytes, len);
    if (signature == NULL)
        return;
    KNIT_FUZZ_CHECK(knit_checks_params(signature, bytes, len).flaw == NULL);
    KNIT_FUZZ_CHECK(knit_checks_result(signature, bytes, len).flaw == NULL);
    if (knit_signature_check_result(signature, bytes, len, &why))
        KNIT_FUZZ_CHECK(knit_signature_explain(&why, true, text, sizeof(text)) > 0);
    else
        KNIT_FUZZ_CHECK(knit_check_value(bytes, len, KNIT_DEPTH_MAX, NULL) == 0);
}

static void read_call(const char *text, size_t len, bool is_task)
{
    struct knit_signature *call = NULL, *again = NULL;
    struct knit_signature_flaw flaw = {0};
    const char *canonical;

    if (knit_signature_parse_call(text, len, &call, &flaw)) {
        KNIT_FUZZ_CHECK(flaw.reason != NULL && flaw.offset <= len);
        KNIT_FUZZ_CHECK(!is_task || memmem(text, len, "...", 3) != NULL);
        return;
    }
    canonical = knit_signature_text(call);
    if (strlen(canonical) <= KNIT_SIGNATURE_BYTES_MAX) {
        KNIT_FUZZ_CHECK(knit_signature_parse_call(canonical, strlen(canonical), &again, NULL) == 0);
        KNIT_FUZZ_CHECK(strcmp(knit_signature_text(again), canonical) == 0);
    }
    knit_signature_free(again);
    knit_signature_free(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    const uint8_t *newline = len ? memchr(bytes, '\n', len) : NULL;
    size_t text_len = newline != NULL ? (size_t)(newline - bytes) : len;
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature = NULL;

    if (knit_signature_parse((const char *)bytes, text_len, &signature, &flaw)) {
        KNIT_FUZZ_CHECK(flaw.reason != NULL && flaw.offset <= text_len);
    } else {
        reparse(signature);
    }
    read_call((const char *)bytes, text_len, signature != NULL);
    if (newline != NULL)
        check(signature, newline + 1, len - text_len - 1);
    knit_signature_free(signature);
    return 0;
}
