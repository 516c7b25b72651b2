/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled rights against the words of the file (S8): random policies, principals and tasks, with
 * reloads; the table decides as knit_policy_decide() does, of all tasks and methods. Then what
 * happens to classes that are used again, and when there are not enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/control/registry.h"
#include "server/policy/policy.h"
#include "server/policy/principals.h"
#include "tests/support/random.h"

enum { TASKS = 150, PRINCIPALS = 40, DECISIONS = 1000000 };

struct world {
    struct knit_random random;
    struct knit_registry *registry;
    struct knit_rights_view rights;
    void *memory;
    struct knit_policy *policy;
    struct knit_policy_file file; /* the same text, for the oracle */
    struct knit_principal *principals[PRINCIPALS];
    struct knit_principals table;
};

static void name_task(uint32_t id, char text[32])
{
    static const char *const groups[] = {"report", "image", "mail", "a.b"};

    (void)snprintf(text, 32, "%s.t%u", groups[id % 4], id / 4);
}

static struct knit_registry *make_registry(void)
{
    struct knit_registry *registry = knit_registry_new(KNIT_REGISTRY_EPOCH_FIRST);

    for (uint32_t id = 0; id < TASKS; id++) {
        struct knit_registry_task task = {.doc = ""};
        struct knit_signature *signature = NULL;
        char name[32], text[64];

        name_task(id, name);
        (void)snprintf(text, sizeof(text), "%s() -> nil", name);
        assert_int_equal(knit_signature_parse(text, strlen(text), &signature, NULL), 0);
        assert_int_equal(knit_registry_add(registry, &task, signature), 0);
    }
    return registry;
}

static struct knit_principal *make_principal(struct world *world, uint32_t i)
{
    char name[32];

    if (i == 0)
        return world->table.anonymous;
    if (i % 2 == 0) {
        const struct knit_credentials credentials = {true, i, i % 5, 1, -1};

        return knit_principals_local(&world->table, &credentials);
    }
    (void)snprintf(name, sizeof(name), "token:%u", i);
    return knit_principals_named(&world->table, KNIT_PRINCIPAL_TOKEN, name);
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    knit_random_init(&world->random);
    world->registry = make_registry();
    world->memory = aligned_alloc(KNIT_PAGE, knit_layout_rights_bytes(TASKS));
    memset(world->memory, 0, knit_layout_rights_bytes(TASKS));
    knit_layout_rights(TASKS, world->memory, &world->rights);
    world->policy = knit_policy_new(&world->rights, world->registry);
    assert_non_null(world->policy);
    assert_int_equal(knit_principals_init(&world->table), 0);
    for (uint32_t i = 0; i < PRINCIPALS; i++)
        world->principals[i] = make_principal(world, i);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    for (uint32_t i = 0; i < PRINCIPALS; i++)
        knit_principals_drop(&world->table, world->principals[i]);
    knit_principals_fini(&world->table);
    knit_policy_file_fini(&world->file);
    world->policy = knit_policy_free(world->policy);
    world->registry = knit_registry_free(world->registry);
    free(world->memory);
    free(world);
    return 0;
}

/* ---- texts ---------------------------------------------------------------------------------- */

struct text {
    char bytes[256 * 1024];
    size_t len;
};

static struct text text;

__attribute__((format(printf, 1, 2))) static void add(const char *format, ...)
{
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(text.bytes + text.len, sizeof(text.bytes) - text.len, format, arguments);
    va_end(arguments);
    assert_true(len >= 0 && (size_t)len < sizeof(text.bytes) - text.len);
    text.len += (size_t)len;
}

/* ---- random policies ----------------------------------------------------------------------- */

static void add_word(struct world *world, bool is_member)
{
    static const char *const patterns[] = {"*", "report.*", "*.t1*", "mail.t3", "image.t7", "a.b.*",
        "$/*", "$/tasks", "$/stats", "r*t*2", "no.such", "*5"};
    static const char *const members[] = {"*", "anonymous", "uid:*", "token:*", "token:3",
        "token:1*", "uid:2", "uid:8", "gid:1", "gid:4", "token:99"};

    if (is_member)
        add(" %s",
            members[knit_random_below(&world->random, sizeof(members) / sizeof(members[0]))]);
    else
        add(" %s",
            patterns[knit_random_below(&world->random, sizeof(patterns) / sizeof(patterns[0]))]);
}

static void add_key(struct world *world, const char *key)
{
    add("%s =", key);
    for (uint64_t left = 1 + knit_random_below(&world->random, 3); left > 0; left--)
        add_word(world, strcmp(key, "members") == 0);
    add("\n");
}

static void make_text(struct world *world)
{
    uint64_t sections = knit_random_below(&world->random, 12);

    text.len = 0;
    add("# random\n");
    for (uint64_t i = 0; i < sections; i++) {
        if (knit_random_chance(&world->random, 3)) {
            add("[principal token:%llu]\n", (unsigned long long)i);
        } else {
            add("[group g%llu]\n", (unsigned long long)i);
            add_key(world, "members");
        }
        if (!knit_random_chance(&world->random, 5))
            add_key(world, "allow");
        if (knit_random_chance(&world->random, 2))
            add_key(world, "deny");
    }
}

static void read_text(const char *from, struct knit_policy_file *file)
{
    struct knit_sentence why = {""};

    *file = (struct knit_policy_file){0};
    if (knit_policy_file_read(file, "f", from, strlen(from), &why) != 0)
        fail_msg("%s", why.text);
}

static bool reload(struct world *world, const char *from)
{
    struct knit_policy_file file;

    knit_policy_file_fini(&world->file);
    read_text(from, &world->file);
    read_text(from, &file);
    assert_int_equal(knit_policy_prepare(world->policy, &file), 0);
    knit_policy_commit(world->policy);
    knit_principals_set_rule(&world->table, knit_policy_rule, world->policy);
    return knit_policy_settle(world->policy);
}

/* ---- the oracle ---------------------------------------------------------------------------- */

/* By the names that the oracle takes a principal to have. */
static bool oracle_allows(
    const struct world *world, const struct knit_principal *principal, const char *name)
{
    char gid[16];
    const char *items[2] = {principal->name, gid};

    if (principal->gid_count > 0)
        (void)snprintf(gid, sizeof(gid), "gid:%u", (unsigned)principal->gids[0]);
    return knit_policy_decide(&world->file,
        &(struct knit_policy_names){items, 1 + principal->gid_count}, name, strlen(name))
        .is_allowed;
}

static void compare_one(struct world *world, const struct knit_principal *principal)
{
    uint64_t which = knit_random_below(&world->random, TASKS + 7);
    bool is_allowed;
    char name[32];

    if (which < TASKS) {
        name_task((uint32_t)which, name);
        is_allowed = knit_right_allows(&world->rights, &principal->right, (uint32_t)which);
    } else {
        (void)snprintf(name, sizeof(name), "%s", knit_policy_methods[which - TASKS]);
        is_allowed = knit_policy_method(&world->rights, &principal->right, name);
    }
    if (is_allowed != oracle_allows(world, principal, name))
        fail_msg("%s and %s: the table says %d", principal->name, name, is_allowed);
}

static void a_million_decisions_are_those_of_the_file(void **state)
{
    struct world *world = *state;
    uint32_t reloads = 0, allowed = 0;

    for (uint32_t i = 0; i < DECISIONS; i++) {
        if (i == 0 || knit_random_chance(&world->random, 500)) {
            make_text(world);
            assert_false(reload(world, text.bytes));
            reloads++;
        }
        compare_one(world, world->principals[knit_random_below(&world->random, PRINCIPALS)]);
        allowed += knit_right_allows(&world->rights, &world->principals[1]->right, 0);
    }
    assert_true(reloads > 1000 && allowed > DECISIONS / 100 && allowed < DECISIONS);
    print_message("%u decisions, %u reloads\n", DECISIONS, reloads);
}

/* Those without a policy yet, and a task that no table has. */
static void before_the_first_file_nobody_may_do_anything(void **state)
{
    struct world *world = *state;

    knit_principals_set_rule(&world->table, knit_policy_rule, world->policy);
    for (uint32_t i = 0; i < PRINCIPALS; i++)
        assert_false(knit_right_allows(&world->rights, &world->principals[i]->right, 0));
    assert_false(reload(world, "[group all]\nmembers = *\nallow = *\n"));
    assert_true(knit_right_allows(&world->rights, &world->principals[3]->right, TASKS - 1));
    assert_false(knit_right_allows(&world->rights, &world->principals[3]->right, TASKS));
    assert_false(knit_right_allows(&world->rights, &world->principals[3]->right, 65535));
}

static void one_who_comes_later_has_the_rights_of_that_moment(void **state)
{
    struct world *world = *state;
    struct knit_principal *late;

    assert_false(reload(world, "[principal token:late]\nallow = mail.*\n"));
    late = knit_principals_named(&world->table, KNIT_PRINCIPAL_TOKEN, "token:late");
    assert_true(knit_right_allows(&world->rights, &late->right, 2));
    assert_false(knit_right_allows(&world->rights, &late->right, 0));
    knit_principals_drop(&world->table, late);
}

/* ---- classes ------------------------------------------------------------------------------- */

/* A right for each of so many principals, each with a task of its own from `first` on. */
static uint32_t count_classes(struct world *world, uint32_t first, uint32_t count)
{
    uint32_t found = 0;

    text.len = 0;
    for (uint32_t i = 0; i < count; i++)
        add("[principal token:%u]\nallow = image.t1 image.t2\nweight = %u\n", first + i,
            1 + i % 1000);
    (void)reload(world, text.bytes);
    for (uint32_t i = 0; i < count; i++) {
        char name[32];
        const char *item = name;
        uint64_t right;

        (void)snprintf(name, sizeof(name), "token:%u", first + i);
        right = knit_policy_right(world->policy, &(struct knit_policy_names){&item, 1});
        found += knit_right_class_of(right) != KNIT_RIGHTS_NOTHING;
    }
    return found;
}

static void equal_rights_are_one_class(void **state)
{
    struct world *world = *state;
    const char *one = "token:1", *other = "token:1001";
    uint64_t first, second;

    assert_int_equal(count_classes(world, 1, 1001), 1001);
    first = knit_policy_right(world->policy, &(struct knit_policy_names){&one, 1});
    second = knit_policy_right(world->policy, &(struct knit_policy_names){&other, 1});
    assert_int_equal(knit_right_class_of(first), knit_right_class_of(second));
    assert_int_not_equal(first, second);
}

/* What an earlier file needed is there again once it is settled. */
static void classes_are_used_again(void **state)
{
    struct world *world = *state;

    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(count_classes(world, 5000 * (i + 1), 1000), 1000);
}

static void a_reload_says_that_it_was_short_of_classes(void **state)
{
    struct world *world = *state;
    const char *name = "token:1900";
    uint64_t right;

    text.len = 0;
    for (uint32_t i = 0; i < 2000; i++)
        add("[principal token:%u]\nallow = image.t1\ncalls_in_flight = %u\n", i, i + 1);
    (void)reload(world, text.bytes);
    for (uint32_t i = 0; i < 2000; i++) {
        char each[32];
        const char *item = each;

        (void)snprintf(each, sizeof(each), "token:%u", i);
        (void)knit_policy_right(world->policy, &(struct knit_policy_names){&item, 1});
    }
    right = knit_policy_right(world->policy, &(struct knit_policy_names){&name, 1});
    assert_int_equal(knit_right_class_of(right), KNIT_RIGHTS_NOTHING);
    assert_true(knit_policy_settle(world->policy));
    assert_false(knit_policy_settle(world->policy));
}

/* ---- files --------------------------------------------------------------------------------- */

static void a_file_that_cannot_be_read_is_named(void **state)
{
    struct knit_policy_file file = {0};
    struct knit_sentence why;

    (void)state;
    assert_int_equal(knit_policy_load(&file, "/no/such/file", &why), KNIT_POLICY_E_REFUSED);
    assert_non_null(strstr(why.text, "cannot read /no/such/file: No such file"));
    assert_int_equal(knit_policy_load(&file, "/tmp", &why), KNIT_POLICY_E_REFUSED);
    assert_non_null(strstr(why.text, "is not a regular file"));
}

static void an_answer_names_the_line(void **state)
{
    struct world *world = *state;
    const char *item = "token:3";
    const struct knit_policy_names names = {&item, 1};
    struct knit_sentence because;

    assert_false(reload(world, "[group g]\nmembers = token:*\nallow = mail.* $/stats\n"
                               "[principal token:3]\ndeny = mail.t1\n"));
    assert_true(knit_policy_explain(world->policy, &names, knit_span_text("mail.t2"), &because));
    assert_string_equal(because.text, "[group g] allows mail.* on line 3");
    assert_false(knit_policy_explain(world->policy, &names, knit_span_text("mail.t1"), &because));
    assert_string_equal(because.text, "[principal token:3] denies mail.t1 on line 5");
    assert_false(knit_policy_explain(world->policy, &names, knit_span_text("image.t1"), &because));
    assert_non_null(strstr(because.text, "[group g] of line 1 does not allow it"));
    item = "uid:1";
    assert_false(knit_policy_explain(world->policy, &names, knit_span_text("image.t1"), &because));
    assert_string_equal(because.text, "no section speaks of this principal");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_million_decisions_are_those_of_the_file),
        TEST(before_the_first_file_nobody_may_do_anything),
        TEST(one_who_comes_later_has_the_rights_of_that_moment),
        TEST(equal_rights_are_one_class),
        TEST(classes_are_used_again),
        TEST(a_reload_says_that_it_was_short_of_classes),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
        TEST(an_answer_names_the_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
