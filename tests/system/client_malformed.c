/* SPDX-License-Identifier: Apache-2.0 */
/* Through lanes a worker says what is wrong, unless the call has options or has to wait for room;
 * on a stream, where the call is a part of a message, the library does. */
#include "tests/system/client_malformed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The argument's name, which the worker alone knows, is left out of what was said. */
static void is_said(const char *message, const char *text)
{
    static const char name[] = " (value)";
    const char *at = strstr(message, name);
    size_t before = at != NULL ? (size_t)(at - message) : strlen(message);

    if (strncmp(message, text, before) != 0 ||
        strcmp(at != NULL ? at + strlen(name) : "", text + before) != 0)
        fail_msg("\"%s\", expected \"%s\"", message, text);
}

void knit_client_malformed(struct knit *k)
{
    static const char deep[] =
        "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"
        "\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91";
    static const struct {
        const char *params;
        size_t len;
        const char *text;
    } bad[] = {
        {"", 0, "the arguments: they are not an array, at byte 0"},
        {"\x05", 1, "the arguments: they are not an array, at byte 0"},
        {"\x91", 1, "the arguments: a container announces more than there is, at byte 0"},
        {"\x91\xc1", 2, "argument 1: the byte 0xc1 is not msgpack, at byte 1"},
        {"\x91\xa1\xff", 3, "argument 1: a str is not UTF-8, at byte 1"},
        {"\x91\xcd\x01", 3, "argument 1: the bytes end within a value, at byte 1"},
        {"\x91\xc4\x05\x01", 4, "argument 1: the bytes end within a value, at byte 1"},
        {"\x91\x92\x01\xa2\xc3(", 6, "argument 1: a str is not UTF-8, at byte 3"},
        {"\x91\xd4\x28\x01", 4,
            "argument 1: references to results are not supported (ext 40), at byte 1"},
        {"\x91\x05\x05", 3, "the arguments: there are bytes behind the last value, at byte 2"},
        {"\xdc\x00\x01", 3, "the arguments: a container announces more than there is, at byte 0"},
        {deep, sizeof(deep) - 1, "argument 1: containers are nested too deep, at byte 32"},
    };
    struct knit_call_options in_time = KNIT_CALL_OPTIONS_INIT;
    struct knit_error error;
    const void *result;
    size_t len;

    in_time.timeout_ms = 60000;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const int code = bad[i].params == deep ? KNIT_TOO_DEEP : KNIT_BAD_ARGUMENT;
        struct knit_handle *handle = NULL;

        assert_int_equal(
            knit_call_raw(k, NULL, &error, "echo", bad[i].params, bad[i].len, &result, &len), code);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_false(error.retryable);
        is_said(error.message, bad[i].text);
        if (knit_start_raw(k, NULL, &handle, &error, "echo", bad[i].params, bad[i].len) == KNIT_OK)
            (void)knit_await(handle, -1, &error);
        assert_int_equal(error.code, code);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        is_said(error.message, bad[i].text);
        (void)knit_free(handle);
        /* With options the library says it, at every distance. */
        assert_int_equal(
            knit_call_raw(k, &in_time, &error, "echo", bad[i].params, bad[i].len, &result, &len),
            code);
        assert_string_equal(error.message, bad[i].text);
    }
}
