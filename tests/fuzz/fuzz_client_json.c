/* SPDX-License-Identifier: Apache-2.0 */
/* A word of the command line as JSON. Oracle: a refusal has its reason; what is accepted is one
 * value of the protocol, which has a text, and that text is read as the same value again.
 */
#include <stdlib.h>
#include <string.h>

#include "clients/tool/json.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "tests/fuzz/target.h"
#include "tests/proto/recode.h"

enum { BUFFER_MAX = 1 << 24 };

static int read_text(const char *text, struct knit_buffer *buffer)
{
    char reason[KNIT_JSON_REASON_BYTES] = "";
    struct knit_writer writer;
    int r;

    knit_buffer_init(buffer, BUFFER_MAX);
    knit_writer_init(&writer, buffer);
    r = knit_json_read(text, strlen(text), &writer, reason);
    KNIT_FUZZ_CHECK(r == 0 || r == KNIT_JSON_E_BAD);
    KNIT_FUZZ_CHECK((r == KNIT_JSON_E_BAD) == (reason[0] != '\0'));
    if (r == 0 && knit_writer_end(&writer) != 0) {
        KNIT_FUZZ_CHECK(knit_writer_reason(writer.error) != NULL);
        r = KNIT_JSON_E_BAD;
    }
    return r;
}

/* Both values in their shortest form: the content of an `$ext` may have had another. */
static void assert_same(const struct knit_buffer *a, const struct knit_buffer *b)
{
    struct knit_buffer left, right;

    knit_buffer_init(&left, BUFFER_MAX);
    knit_buffer_init(&right, BUFFER_MAX);
    KNIT_FUZZ_CHECK(knit_recode(knit_buffer_span(a), &left) == 0);
    KNIT_FUZZ_CHECK(knit_recode(knit_buffer_span(b), &right) == 0);
    KNIT_FUZZ_CHECK(left.len == right.len && memcmp(left.bytes, right.bytes, left.len) == 0);
    knit_buffer_fini(&left);
    knit_buffer_fini(&right);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct knit_buffer first, second;
    char *text = strndup((const char *)bytes, len), *written, *indented;

    if (text == NULL)
        return 0;
    if (read_text(text, &first) == 0) {
        KNIT_FUZZ_CHECK(knit_check_value(first.bytes, first.len, KNIT_DEPTH_MAX, NULL) == 0);
        KNIT_FUZZ_CHECK(knit_json_write(knit_buffer_span(&first), false, &written) == 0);
        KNIT_FUZZ_CHECK(knit_json_write(knit_buffer_span(&first), true, &indented) == 0);
        KNIT_FUZZ_CHECK(strchr(written, '\n') == NULL);
        KNIT_FUZZ_CHECK(read_text(written, &second) == 0);
        assert_same(&first, &second);
        knit_buffer_fini(&second);
        KNIT_FUZZ_CHECK(read_text(indented, &second) == 0);
        assert_same(&first, &second);
        knit_buffer_fini(&second);
        free(written);
        free(indented);
    }
    knit_buffer_fini(&first);
    free(text);
    return 0;
}
