/* SPDX-License-Identifier: Apache-2.0 */
/* Which files a module may be, and that no name leads out of the folder that modules have to lie
 * in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fastpath/host/module_path.h"
#include "tests/support/scratch.h"

static char *folder, *root, *beside, *inside, *outside, *way_out, *way_in;

static void put_file(const char *path)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

/* root/inside.so; root-beside/outside.so; links from each to the other. */
static int set_up(void **state)
{
    (void)state;
    folder = knit_scratch_new();
    root = knit_scratch_path(folder, "root");
    beside = knit_scratch_path(folder, "root-beside");
    inside = knit_scratch_path(folder, "root/inside.so");
    outside = knit_scratch_path(folder, "root-beside/outside.so");
    way_out = knit_scratch_path(folder, "root/way_out.so");
    way_in = knit_scratch_path(folder, "root-beside/way_in.so");
    if (mkdir(root, 0700) != 0 || mkdir(beside, 0700) != 0)
        return -1;
    put_file(inside);
    put_file(outside);
    return symlink(outside, way_out) == 0 && symlink(inside, way_in) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(root);
    free(beside);
    free(inside);
    free(outside);
    free(way_out);
    free(way_in);
    (void)knit_scratch_free(folder);
    return 0;
}

static void assert_found(const char *given, const char *below, const char *expected)
{
    struct knit_sentence why = {""};
    char *path;

    if (knit_module_path_find(given, below, &path, &why) != 0)
        fail_msg("%s", why.text);
    assert_string_equal(path, expected);
    free(path);
}

static void assert_refused(const char *given, const char *below, const char *words)
{
    struct knit_sentence why = {""};
    char *path;

    assert_int_equal(knit_module_path_find(given, below, &path, &why), KNIT_MODULE_PATH_E_REFUSED);
    assert_null(path);
    if (strstr(why.text, words) == NULL || strstr(why.text, given) == NULL)
        fail_msg("\"%s\" should have \"%s\" and \"%s\"", why.text, given, words);
}

static void links_are_followed_before_the_root_decides(void **state)
{
    char *crooked = knit_scratch_path(folder, "root/../root-beside/../root/inside.so");
    char *real_root, *real_inside = realpath(inside, NULL), *real_outside = realpath(outside, NULL);
    struct knit_sentence why;

    (void)state;
    assert_int_equal(knit_module_root_find(root, "modules_root", &real_root, &why), 0);
    assert_found(inside, real_root, real_inside);
    assert_found(way_in, real_root, real_inside);
    assert_found(crooked, real_root, real_inside);
    assert_found(inside, "/", real_inside);
    assert_found(way_out, NULL, real_outside);
    /* The name of the folder beside begins with the root's. */
    assert_refused(outside, real_root, "which is not in modules_root");
    assert_refused(way_out, real_root, real_outside);
    free(real_root);
    free(crooked);
    free(real_inside);
    free(real_outside);
}

static void relative_paths_begin_at_the_current_folder(void **state)
{
    char before[4096];
    char *real_inside = realpath(inside, NULL), *found;
    struct knit_sentence why;

    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    assert_found("root/inside.so", NULL, real_inside);
    assert_int_equal(knit_module_root_find("root", "modules_root", &found, &why), 0);
    assert_found("root/inside.so", found, real_inside);
    assert_int_equal(chdir(before), 0);
    free(found);
    free(real_inside);
}

static void what_is_no_file_to_read_is_refused(void **state)
{
    (void)state;
    assert_refused(root, NULL, "it is no regular file");
    assert_refused("/dev/null", NULL, "it is no regular file");
    assert_refused("no/such.so", NULL, "No such file");
}

static void addresses_are_no_paths(void **state)
{
    static const char *const addresses[] = {"http://localhost/a.so", "HTTPS://localhost/a.so",
        "file:///usr/lib/a.so", "git+ssh://localhost/a.so", "x-1.2://a"};
    static const char *const paths[] = {
        "a.so", "/usr/a://b", "://a", "+a://b", "a:/b", "./http://localhost", "", "a b://c"};

    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        assert_true(knit_module_path_is_remote(addresses[i]));
        assert_refused(addresses[i], NULL, "expected the path of a file here, not an address");
    }
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        assert_false(knit_module_path_is_remote(paths[i]));
}

static void a_root_is_a_folder(void **state)
{
    struct knit_sentence why = {""};
    char *found;

    (void)state;
    assert_int_equal(knit_module_root_find(NULL, "modules_root", &found, &why), 0);
    assert_null(found);
    assert_int_equal(
        knit_module_root_find(inside, "modules_root", &found, &why), KNIT_MODULE_PATH_E_REFUSED);
    assert_non_null(strstr(why.text, "inside.so is no folder"));
    assert_int_equal(knit_module_root_find("/nowhere", "modules_root", &found, &why),
        KNIT_MODULE_PATH_E_REFUSED);
    assert_string_equal(
        why.text, "modules_root: cannot find the folder /nowhere: No such file or directory");
    assert_null(found);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(links_are_followed_before_the_root_decides),
        TEST(relative_paths_begin_at_the_current_folder),
        TEST(what_is_no_file_to_read_is_refused),
        TEST(addresses_are_no_paths),
        TEST(a_root_is_a_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
