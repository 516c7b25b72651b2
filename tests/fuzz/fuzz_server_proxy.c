/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a proxy. Oracle: no more than its own bytes are read, a beginning of it asks for
 * more, and what is taken has an address of a family that is known, or none.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "server/net/proxy_header.h"
#include "tests/fuzz/target.h"

struct outcome {
    int result;
    size_t len;
    struct knit_endpoint from;
    const char *reason;
};

/* In memory that is as long as they are. */
static struct outcome parse(const uint8_t *bytes, size_t len)
{
    struct outcome outcome = {.reason = NULL};
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, bytes, len);
    outcome.result =
        knit_proxy_header_parse(copy, len, &outcome.len, &outcome.from, &outcome.reason);
    free(copy);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct outcome whole = parse(bytes, len);

    if (whole.result == KNIT_PROXY_HEADER_E_BAD) {
        KNIT_FUZZ_CHECK(whole.reason != NULL && whole.reason[0] != '\0');
        return 0;
    }
    KNIT_FUZZ_CHECK(whole.len >= KNIT_PROXY_HEADER_FIXED && whole.len <= KNIT_PROXY_HEADER_MAX);
    KNIT_FUZZ_CHECK((whole.result == KNIT_PROXY_HEADER_E_SHORT) == (len < whole.len));
    for (size_t i = 0; i < len && i < whole.len; i++) {
        struct outcome part = parse(bytes, i);

        KNIT_FUZZ_CHECK(
            part.result == KNIT_PROXY_HEADER_E_SHORT && part.len > i && part.len <= whole.len);
    }
    if (whole.result != 0)
        return 0;
    KNIT_FUZZ_CHECK(whole.from.address_len == 0 ||
                    (whole.from.address.ss_family == AF_INET &&
                        whole.from.address_len == sizeof(struct sockaddr_in)) ||
                    (whole.from.address.ss_family == AF_INET6 &&
                        whole.from.address_len == sizeof(struct sockaddr_in6)));
    KNIT_FUZZ_CHECK(parse(bytes, whole.len).result == 0);
    return 0;
}
