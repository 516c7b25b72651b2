/* SPDX-License-Identifier: Apache-2.0 */
/* A result as the library reads it through a signature, and arguments as it writes them. The first
 * byte chooses the type of the result, and the order of the arguments. Oracle: the short way does
 * as the full one, or steps aside without having written anything.
 */
#include <string.h>

#include "tests/clients/two_shapes.h"
#include "tests/fuzz/target.h"

static void check(const char *wrong)
{
    if (wrong != NULL)
        (void)fprintf(stderr, "%s\n", wrong);
    KNIT_FUZZ_CHECK(wrong == NULL);
}

static void write_values(const uint8_t *bytes, size_t len, unsigned order)
{
    struct knit_two_shapes_values values = {.bits = {0}};
    size_t used = len < sizeof(values.bits) ? len : sizeof(values.bits);
    char *text = strndup((const char *)bytes, len);
    bool is_short;

    memcpy(values.bits, bytes, used);
    values.text = text;
    values.bytes = bytes + used;
    values.len = len - used;
    check(knit_two_shapes_write(&values, order, &is_short));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const types[] = {
        "", "nil", "bool", "int", "uint", "float", "str", "bin", "any", "int?"};
    bool is_short;

    if (len == 0)
        return 0;
    check(knit_two_shapes_read(
        types[bytes[0] % (sizeof(types) / sizeof(types[0]))], bytes + 1, len - 1, &is_short));
    write_values(bytes + 1, len - 1, bytes[0]);
    return 0;
}
