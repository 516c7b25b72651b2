/* SPDX-License-Identifier: Apache-2.0 */
/* What options of the host do that no caller sees: ranges by name, and the memory of arenas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/fastpath/pools.h"

/* Each is refused one beyond both ends, by its name, and by nothing else. */
static void every_number_has_two_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < knit_host_number_count; i++) {
        const struct knit_host_number *number = &knit_host_numbers[i];
        const uint64_t beyond[] = {number->least - 1, number->most + 1};
        char expected[128];

        assert_ptr_equal(knit_host_number_find(number->name), number);
        for (int end = number->least == 0; end < 2; end++) {
            struct pools pools;

            pools_init(&pools, 1);
            assert_true(knit_host_number_get(&pools.options, number) >= number->least);
            knit_host_number_set(&pools.options, number, beyond[end]);
            (void)snprintf(expected, sizeof(expected), "%s is %llu: %llu to %llu are possible",
                number->name, (unsigned long long)beyond[end], (unsigned long long)number->least,
                (unsigned long long)number->most);
            pools_expect_refusal(
                &pools, strcmp(number->name, "workers") == 0 && end == 0 ? "no workers" : expected);
        }
    }
    assert_null(knit_host_number_find("spin"));
}

/* Bytes that the segment has which holds the reply arenas of this host's session. */
static uint64_t bytes_of_reply_segment(void)
{
    char path[32], target[64] = "";
    struct stat status;

    for (int fd = 3; fd < 256; fd++) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        memset(target, 0, sizeof(target));
        if (readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, "knit-reply-") != NULL)
            return fstat(fd, &status) == 0 ? (uint64_t)status.st_blocks * 512 : 0;
    }
    fail_msg("there is no reply segment");
    return 0;
}

static void arenas_of_fixed_size_have_all_their_memory_from_the_beginning(void **state)
{
    struct pools pools;

    (void)state;
    pools_init(&pools, 2);
    assert_int_equal(pools_open(&pools), 0);
    assert_true(bytes_of_reply_segment() >= 2 * pools.options.arena_initial_bytes);
    assert_true(bytes_of_reply_segment() < pools.options.arena_bytes);
    pools_fini(&pools);
    pools_init(&pools, 2);
    knit_host_options_fix_arenas(&pools.options);
    assert_int_equal(pools_open(&pools), 0);
    assert_true(bytes_of_reply_segment() >= 2 * pools.options.arena_bytes);
    pools_fini(&pools);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_has_two_ends),
        cmocka_unit_test(arenas_of_fixed_size_have_all_their_memory_from_the_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
