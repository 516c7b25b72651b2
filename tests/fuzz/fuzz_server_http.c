/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request by HTTP. Oracle: no byte behind the head matters and none is read beyond
 * the end, a beginning of a head asks for more, and what is taken lies in it and is of the forms
 * that answers rely on. The bytes are a host as well, for the look at that.
 */
#include <stdlib.h>
#include <string.h>

#include "server/admin/http.h"
#include "tests/fuzz/target.h"

struct outcome {
    int result;
    struct knit_http_request request;
    size_t path_at, host_at;
};

/* In memory that is as long as they are. */
static struct outcome parse(const uint8_t *bytes, size_t len)
{
    struct outcome outcome = {.path_at = 0};
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, bytes, len);
    outcome.result = knit_http_parse(copy, len, &outcome.request);
    if (outcome.result == 0) {
        outcome.path_at = (size_t)(outcome.request.path.bytes - copy);
        if (outcome.request.host.bytes != NULL)
            outcome.host_at = (size_t)(outcome.request.host.bytes - copy);
    }
    free(copy);
    return outcome;
}

static void look_at_host(const uint8_t *bytes, size_t len)
{
    static const char *const names[] = {"x.example", NULL};
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, bytes, len);
    /* What is known without names is known with them. */
    if (knit_http_host_is_known(knit_span(copy, len), NULL))
        KNIT_FUZZ_CHECK(knit_http_host_is_known(knit_span(copy, len), names));
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct outcome whole = parse(bytes, len), part;
    const uint8_t *end = len > 0 ? memmem(bytes, len, "\r\n\r\n", 4) : NULL;
    size_t head = end != NULL ? (size_t)(end - bytes) + 4 : len;

    look_at_host(bytes, len > 0 ? strnlen((const char *)bytes, len) : 0);
    KNIT_FUZZ_CHECK(
        (whole.result == KNIT_HTTP_E_SHORT) == (end == NULL && len < KNIT_HTTP_HEAD_MAX));
    KNIT_FUZZ_CHECK((whole.result == KNIT_HTTP_HEAD_TOO_LARGE) ==
                    (head > KNIT_HTTP_HEAD_MAX || (end == NULL && len >= KNIT_HTTP_HEAD_MAX)));
    if (end == NULL || whole.result == KNIT_HTTP_HEAD_TOO_LARGE)
        return 0;
    part = parse(bytes, head - 1);
    KNIT_FUZZ_CHECK(part.result == KNIT_HTTP_E_SHORT);
    part = parse(bytes, head);
    KNIT_FUZZ_CHECK(part.result == whole.result);
    if (whole.result != 0) {
        KNIT_FUZZ_CHECK(
            whole.result == KNIT_HTTP_BAD_REQUEST || whole.result == KNIT_HTTP_METHOD_NOT_ALLOWED);
        return 0;
    }
    KNIT_FUZZ_CHECK(part.path_at == whole.path_at && part.host_at == whole.host_at);
    KNIT_FUZZ_CHECK(whole.path_at + whole.request.path.len <= head &&
                    whole.host_at + whole.request.host.len <= head);
    KNIT_FUZZ_CHECK(bytes[whole.path_at] == '/' && whole.request.path.len > 0);
    for (size_t i = 0; i < whole.request.path.len; i++)
        KNIT_FUZZ_CHECK(bytes[whole.path_at + i] > ' ' && bytes[whole.path_at + i] < 0x7f &&
                        bytes[whole.path_at + i] != '?');
    look_at_host(bytes + whole.host_at, whole.request.host.len);
    return 0;
}
