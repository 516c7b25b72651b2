/* SPDX-License-Identifier: Apache-2.0 */
/* That the bytes are right is tested by the vectors. Here: that mistakes are found, and that
 * nothing half-written is left behind.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/check.h"
#include "proto/writer.h"
#include "tests/proto/failing.h"

enum { BUFFER_MAX = 1 << 20 };

struct fixture {
    struct knit_buffer buffer;
    struct knit_writer writer;
};

static void begin(struct fixture *fixture)
{
    knit_buffer_init(&fixture->buffer, BUFFER_MAX);
    knit_buffer_append(&fixture->buffer, "before", 6);
    knit_writer_init(&fixture->writer, &fixture->buffer);
}

/* The error, and that the buffer is as it was. */
static void ends_with(struct fixture *fixture, int error)
{
    assert_int_equal(knit_writer_end(&fixture->writer), error);
    assert_int_equal(fixture->buffer.len, 6);
    assert_int_equal(fixture->buffer.error, 0);
    assert_memory_equal(fixture->buffer.bytes, "before", 6);
    knit_buffer_fini(&fixture->buffer);
}

static void fewer_values_than_announced_are_incomplete(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    ends_with(&fixture, KNIT_WRITER_E_INCOMPLETE);
    begin(&fixture);
    knit_writer_array(&fixture.writer, 2);
    knit_writer_nil(&fixture.writer);
    ends_with(&fixture, KNIT_WRITER_E_INCOMPLETE);
    begin(&fixture);
    knit_writer_map(&fixture.writer, 1);
    knit_writer_text(&fixture.writer, "key");
    ends_with(&fixture, KNIT_WRITER_E_INCOMPLETE);
    begin(&fixture);
    knit_writer_array(&fixture.writer, 1);
    knit_writer_array(&fixture.writer, UINT32_MAX);
    ends_with(&fixture, KNIT_WRITER_E_INCOMPLETE);
}

static void more_values_than_announced_are_surplus(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_int(&fixture.writer, 1);
    knit_writer_int(&fixture.writer, 2);
    ends_with(&fixture, KNIT_WRITER_E_SURPLUS);
    begin(&fixture);
    knit_writer_array(&fixture.writer, 0);
    knit_writer_array(&fixture.writer, 1);
    ends_with(&fixture, KNIT_WRITER_E_SURPLUS);
}

static void containers_close_when_they_are_full(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_array(&fixture.writer, 3);
    knit_writer_array(&fixture.writer, 0);
    knit_writer_map(&fixture.writer, 1);
    knit_writer_uint(&fixture.writer, 300);
    knit_writer_array(&fixture.writer, 1);
    knit_writer_bool(&fixture.writer, true);
    knit_writer_raw(&fixture.writer, "\x91\xc2", 2);
    assert_int_equal(knit_writer_end(&fixture.writer), 0);
    assert_int_equal(fixture.buffer.len, 16);
    assert_memory_equal(fixture.buffer.bytes, "before\x93\x90\x81\xcd\x01\x2c\x91\xc3\x91\xc2", 16);
    knit_buffer_fini(&fixture.buffer);
}

static void nesting_beyond_the_limit_is_refused(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    for (unsigned i = 0; i < KNIT_DEPTH_MAX; i++)
        knit_writer_array(&fixture.writer, 1);
    knit_writer_nil(&fixture.writer);
    assert_int_equal(knit_writer_end(&fixture.writer), 0);
    knit_buffer_fini(&fixture.buffer);
    begin(&fixture);
    for (unsigned i = 0; i <= KNIT_DEPTH_MAX; i++)
        knit_writer_map(&fixture.writer, 0xffff);
    ends_with(&fixture, KNIT_WRITER_E_TOO_DEEP);
    begin(&fixture);
    for (unsigned i = 0; i < KNIT_DEPTH_MAX; i++)
        knit_writer_array(&fixture.writer, 1);
    knit_writer_raw(&fixture.writer, "\x90", 1);
    ends_with(&fixture, KNIT_WRITER_E_TOO_DEEP);
    begin(&fixture);
    for (unsigned i = 0; i < KNIT_DEPTH_MAX; i++)
        knit_writer_array(&fixture.writer, 1);
    knit_writer_ext(&fixture.writer, KNIT_EXT_SET, "\x90", 1);
    ends_with(&fixture, KNIT_WRITER_E_TOO_DEEP);
}

static void what_no_reader_would_take_is_not_written(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_str(&fixture.writer, "\xff", 1);
    knit_writer_nil(&fixture.writer);
    ends_with(&fixture, KNIT_WRITER_E_TEXT);
    begin(&fixture);
    knit_writer_ext(&fixture.writer, 5, "", 0);
    ends_with(&fixture, KNIT_WRITER_E_EXT);
    begin(&fixture);
    knit_writer_ext(&fixture.writer, KNIT_EXT_SET, "\x91\xa1\xff", 3);
    ends_with(&fixture, KNIT_WRITER_E_TEXT);
    begin(&fixture);
    knit_writer_ext(&fixture.writer, KNIT_EXT_SET, "\x91", 1);
    ends_with(&fixture, KNIT_WRITER_E_RAW);
    begin(&fixture);
    knit_writer_time(&fixture.writer, 0, 1000000000);
    ends_with(&fixture, KNIT_WRITER_E_EXT);
    begin(&fixture);
    knit_writer_raw(&fixture.writer, "\x01\x02", 2);
    ends_with(&fixture, KNIT_WRITER_E_RAW);
    begin(&fixture);
    knit_writer_raw(&fixture.writer, "", 0);
    ends_with(&fixture, KNIT_WRITER_E_RAW);
}

static void lengths_beyond_32_bits_are_full(void **state)
{
    size_t len = (size_t)UINT32_MAX + 1;
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_str(&fixture.writer, "", len);
    ends_with(&fixture, KNIT_WRITER_E_FULL);
    begin(&fixture);
    knit_writer_bin(&fixture.writer, "", len);
    ends_with(&fixture, KNIT_WRITER_E_FULL);
    begin(&fixture);
    knit_writer_ext(&fixture.writer, KNIT_EXT_VIEW, "", len);
    ends_with(&fixture, KNIT_WRITER_E_FULL);
}

static void put_all(struct knit_writer *writer)
{
    void *place;

    knit_writer_array(writer, 13);
    knit_writer_nil(writer);
    knit_writer_bool(writer, true);
    knit_writer_bool(writer, false);
    knit_writer_int(writer, -70000);
    knit_writer_uint(writer, UINT64_MAX);
    knit_writer_float(writer, 0.5);
    knit_writer_str(writer, "text", 4);
    knit_writer_bin(writer, "bin", 3);
    place = knit_writer_bin_place(writer, 300);
    if (place != NULL)
        memset(place, 'p', 300);
    knit_writer_map(writer, 1);
    knit_writer_text(writer, "key");
    knit_writer_array(writer, 0);
    knit_writer_ext(writer, KNIT_EXT_VIEW, "view", 4);
    knit_writer_time(writer, 1, 1);
    knit_writer_raw(writer, "\xa3raw", 4);
}

static void every_cap_that_is_too_small_leaves_the_buffer_as_it_was(void **state)
{
    static uint8_t memory[1000];
    struct knit_buffer buffer;
    struct knit_writer writer;
    size_t needed;

    (void)state;
    knit_buffer_init_fixed(&buffer, memory, sizeof(memory));
    knit_writer_init(&writer, &buffer);
    put_all(&writer);
    assert_int_equal(knit_writer_end(&writer), 0);
    needed = buffer.len;
    assert_int_equal(knit_check_value(memory, needed, KNIT_DEPTH_MAX, NULL), 0);
    for (size_t size = 0; size < needed; size++) {
        knit_buffer_init_fixed(&buffer, memory, size);
        knit_writer_init(&writer, &buffer);
        put_all(&writer);
        assert_int_equal(knit_writer_end(&writer), KNIT_WRITER_E_FULL);
        assert_int_equal(buffer.len, 0);
        assert_int_equal(buffer.error, 0);
    }
}

static void memory_that_is_not_there_is_said(void **state)
{
    struct knit_buffer buffer;
    struct knit_writer writer;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    knit_writer_init(&writer, &buffer);
    knit_failing_after(1);
    knit_writer_nil(&writer);
    knit_failing_after(0);
    assert_int_equal(knit_writer_end(&writer), -ENOMEM);
    knit_buffer_fini(&buffer);
}

static void errors_of_a_commit_stick_to_the_buffer(void **state)
{
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_str(&fixture.writer, "\xff", 1);
    assert_int_equal(knit_writer_commit(&fixture.writer), -EINVAL);
    assert_int_equal(fixture.buffer.error, -EINVAL);
    assert_int_equal(fixture.buffer.len, 6);
    /* A writer that comes later puts nothing and hands the error on. */
    knit_writer_init(&fixture.writer, &fixture.buffer);
    knit_writer_nil(&fixture.writer);
    assert_null(knit_writer_bin_place(&fixture.writer, 1));
    assert_int_equal(knit_writer_end(&fixture.writer), -EINVAL);
    assert_int_equal(knit_writer_commit(&fixture.writer), -EINVAL);
    assert_int_equal(fixture.buffer.error, -EINVAL);
    knit_buffer_fini(&fixture.buffer);
    knit_buffer_init_fixed(&fixture.buffer, NULL, 0);
    knit_writer_init(&fixture.writer, &fixture.buffer);
    knit_writer_nil(&fixture.writer);
    assert_int_equal(knit_writer_commit(&fixture.writer), KNIT_BUFFER_E_FULL);
    knit_writer_init(&fixture.writer, &fixture.buffer);
    assert_int_equal(knit_writer_end(&fixture.writer), KNIT_WRITER_E_FULL);
    begin(&fixture);
    knit_writer_nil(&fixture.writer);
    assert_int_equal(knit_writer_commit(&fixture.writer), 0);
    knit_buffer_fini(&fixture.buffer);
}

static void the_head_of_a_bin_stands_alone(void **state)
{
    static const uint32_t lens[] = {0, 255, 256, 65535, 65536, UINT32_MAX};
    static const size_t sizes[] = {2, 2, 3, 3, 5, 5};
    uint8_t head[KNIT_WRITER_BIN_HEAD_MAX];
    struct knit_head read;

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(knit_writer_bin_head(head, lens[i]), sizes[i]);
        assert_int_equal(knit_head_read(head, sizes[i], &read), 0);
        assert_int_equal(read.type, KNIT_HEAD_BIN);
        assert_true(read.value == lens[i]);
    }
}

static void members_are_keys_and_values_and_absent_ones_nothing(void **state)
{
    static const char expected[] = "before\x83\xa1"
                                   "a\xc3\xa1"
                                   "b\x07\xa1"
                                   "c\xa0";
    struct fixture fixture;

    (void)state;
    begin(&fixture);
    knit_writer_map(&fixture.writer, 3);
    knit_writer_member_bool(&fixture.writer, "a", true);
    knit_writer_member_uint(&fixture.writer, "b", 7);
    knit_writer_member_str(&fixture.writer, "c", knit_span_text(""));
    knit_writer_member_str(&fixture.writer, "d", knit_span_text(NULL));
    assert_int_equal(knit_writer_end(&fixture.writer), 0);
    assert_int_equal(fixture.buffer.len, sizeof(expected) - 1);
    assert_memory_equal(fixture.buffer.bytes, expected, sizeof(expected) - 1);
    knit_buffer_fini(&fixture.buffer);
}

static void every_error_has_a_sentence(void **state)
{
    (void)state;
    for (int a = 0; a <= KNIT_WRITER_E_RAW; a++) {
        for (int b = 0; b < a; b++)
            assert_string_not_equal(knit_writer_reason(a), knit_writer_reason(b));
    }
    assert_string_equal(knit_writer_reason(-ENOMEM), "out of memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fewer_values_than_announced_are_incomplete),
        cmocka_unit_test(more_values_than_announced_are_surplus),
        cmocka_unit_test(containers_close_when_they_are_full),
        cmocka_unit_test(nesting_beyond_the_limit_is_refused),
        cmocka_unit_test(what_no_reader_would_take_is_not_written),
        cmocka_unit_test(lengths_beyond_32_bits_are_full),
        cmocka_unit_test(every_cap_that_is_too_small_leaves_the_buffer_as_it_was),
        cmocka_unit_test(memory_that_is_not_there_is_said),
        cmocka_unit_test(errors_of_a_commit_stick_to_the_buffer),
        cmocka_unit_test(the_head_of_a_bin_stands_alone),
        cmocka_unit_test(members_are_keys_and_values_and_absent_ones_nothing),
        cmocka_unit_test(every_error_has_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
