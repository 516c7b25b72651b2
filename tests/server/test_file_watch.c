/* SPDX-License-Identifier: Apache-2.0 */
/* When files that settings name count as changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/daemon/file_watch.h"
#include "tests/support/scratch.h"

static char *scratch;
static struct knit_settings settings;
static char tokens[256], certificate[256], key[256];
static char *certificates[] = {certificate, NULL}, *keys[] = {key, NULL};

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct knit_file_watch begin(void)
{
    struct knit_file_watch watch;

    write_file(tokens, "a");
    write_file(certificate, "b");
    write_file(key, "c");
    settings = (struct knit_settings){.tokens = tokens,
        .tls_certificate = {.items = certificates, .count = 1},
        .tls_key = {.items = keys, .count = 1}};
    knit_file_watch_init(&watch, &settings);
    return watch;
}

/* How many looks until one says that there is a change; 0: none of ten does. */
static int looks(struct knit_file_watch *watch)
{
    for (int i = 1; i <= 10; i++)
        if (knit_file_watch_look(watch))
            return i;
    return 0;
}

static void without_a_change_there_is_none(void **state)
{
    struct knit_file_watch watch = begin();

    (void)state;
    assert_int_equal(looks(&watch), 0);
}

static void a_change_counts_once_when_it_looks_the_same_twice(void **state)
{
    char *const paths[] = {tokens, certificate, key};
    struct knit_file_watch watch = begin();

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        write_file(paths[i], "another text");
        assert_int_equal(looks(&watch), 2);
        assert_int_equal(looks(&watch), 0);
        assert_int_equal(unlink(paths[i]), 0);
        assert_int_equal(looks(&watch), 2);
        assert_int_equal(looks(&watch), 0);
    }
}

static void what_is_being_written_does_not_count(void **state)
{
    struct knit_file_watch watch = begin();
    char text[16] = "";

    (void)state;
    for (int i = 0; i < 8; i++) {
        text[i] = 'x';
        write_file(i % 2 != 0 ? certificate : key, text);
        assert_false(knit_file_watch_look(&watch));
    }
    assert_int_equal(looks(&watch), 1);
}

static void what_is_as_it_was_does_not_count(void **state)
{
    struct knit_file_watch watch = begin();
    char other[300];

    (void)state;
    (void)snprintf(other, sizeof(other), "%s.old", tokens);
    assert_int_equal(rename(tokens, other), 0);
    assert_false(knit_file_watch_look(&watch));
    assert_int_equal(rename(other, tokens), 0);
    assert_int_equal(looks(&watch), 0);
}

/* As kubelet does: the name is a link into a folder that is a link, which is exchanged. */
static void links_are_followed(void **state)
{
    char dir[200], path[300], link[300];
    struct knit_file_watch watch;

    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/volume", scratch);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (int version = 1; version <= 2; version++) {
        (void)snprintf(path, sizeof(path), "%s/..%d", dir, version);
        assert_int_equal(mkdir(path, 0700), 0);
        (void)snprintf(path, sizeof(path), "%s/..%d/tokens", dir, version);
        write_file(path, "of the same length");
    }
    (void)snprintf(link, sizeof(link), "%s/..data", dir);
    assert_int_equal(symlink("..1", link), 0);
    (void)snprintf(path, sizeof(path), "%s/tokens", dir);
    assert_int_equal(symlink("..data/tokens", path), 0);
    settings = (struct knit_settings){.tokens = path};
    knit_file_watch_init(&watch, &settings);
    assert_int_equal(looks(&watch), 0);
    (void)snprintf(path, sizeof(path), "%s/..new", dir);
    assert_int_equal(symlink("..2", path), 0);
    assert_int_equal(rename(path, link), 0);
    (void)snprintf(path, sizeof(path), "%s/tokens", dir);
    assert_int_equal(looks(&watch), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_change_there_is_none),
        cmocka_unit_test(a_change_counts_once_when_it_looks_the_same_twice),
        cmocka_unit_test(what_is_being_written_does_not_count),
        cmocka_unit_test(what_is_as_it_was_does_not_count),
        cmocka_unit_test(links_are_followed),
    };
    int r;

    scratch = knit_scratch_new();
    (void)snprintf(tokens, sizeof(tokens), "%s/tokens", scratch);
    (void)snprintf(certificate, sizeof(certificate), "%s/certificate", scratch);
    (void)snprintf(key, sizeof(key), "%s/key", scratch);
    r = cmocka_run_group_tests(tests, NULL, NULL);
    scratch = knit_scratch_free(scratch);
    return r;
}
