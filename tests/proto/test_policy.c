/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy file says: sections, patterns, members, limits; each mistake by its line; whatever
 * the order of its sections; and any bytes, which are read or refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/policy.h"
#include "tests/support/deadline.h"
#include "tests/support/random.h"

static struct knit_policy_file read_text(const char *text)
{
    struct knit_policy_file file = {0};
    struct knit_sentence why = {""};

    if (knit_policy_file_read(&file, "f", text, strlen(text), &why) != 0)
        fail_msg("%s", why.text);
    if (knit_policy_file_check(&file, "f", &why) != 0)
        fail_msg("%s", why.text);
    return file;
}

static void refused(const char *text, const char *part)
{
    struct knit_policy_file file = {0};
    struct knit_sentence why = {""};
    int r = knit_policy_file_read(&file, "f", text, strlen(text), &why);

    if (r == 0)
        r = knit_policy_file_check(&file, "f", &why);
    assert_int_equal(r, KNIT_POLICY_E_REFUSED);
    if (strstr(why.text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, why.text);
    knit_policy_file_fini(&file);
}

/* names: of the principal, with blanks between them. */
static bool may(const struct knit_policy_file *file, const char *names, const char *task)
{
    char *copy = strdup(names), *rest = NULL;
    const char *items[8];
    struct knit_policy_names list = {items, 0};
    bool is_allowed;

    for (char *name = strtok_r(copy, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest))
        items[list.count++] = name;
    is_allowed = knit_policy_decide(file, &list, task, strlen(task)).is_allowed;
    free(copy);
    return is_allowed;
}

static void what_no_section_allows_is_denied(void **state)
{
    struct knit_policy_file file = read_text("[principal token:a]\nallow = add\n");

    (void)state;
    assert_true(may(&file, "token:a", "add"));
    assert_false(may(&file, "token:a", "adder"));
    assert_false(may(&file, "token:a", "ad"));
    assert_false(may(&file, "token:b", "add"));
    assert_false(may(&file, "anonymous", "add"));
    assert_false(may(&file, "token:a", "$/tasks"));
    knit_policy_file_fini(&file);
    file = read_text("# nothing\n\n");
    assert_false(may(&file, "token:a", "add"));
    knit_policy_file_fini(&file);
}

static void one_deny_wins_wherever_it_stands(void **state)
{
    static const char *const texts[] = {"[group g]\nmembers = token:a\nallow = "
                                        "report.*\n[principal token:a]\ndeny = report.delete\n",
        "[principal token:a]\ndeny = report.delete\n[group g]\nmembers = token:a\nallow = "
        "report.*\n",
        "[group g]\ndeny = report.delete\nallow = report.*\nmembers = token:a\n"};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct knit_policy_file file = read_text(texts[i]);

        assert_true(may(&file, "token:a", "report.make"));
        assert_false(may(&file, "token:a", "report.delete"));
        knit_policy_file_fini(&file);
    }
}

static void sections_add_up(void **state)
{
    struct knit_policy_file file =
        read_text("[group one]\nmembers = uid:1 uid:4294967294 uid:0 gid:7\nallow = a\n"
                  "[group two]\nmembers = uid:2 gid:7 token:*\nallow = b $/attach\n"
                  "[group all]\nmembers = *\nallow = c\n");

    (void)state;
    assert_true(may(&file, "uid:1", "a"));
    assert_true(may(&file, "uid:4294967294", "a"));
    assert_true(may(&file, "uid:0", "a"));
    assert_false(may(&file, "uid:1", "b"));
    assert_true(may(&file, "uid:3 gid:7", "a"));
    assert_true(may(&file, "uid:3 gid:7", "b"));
    assert_true(may(&file, "token:x", "$/attach"));
    assert_true(may(&file, "anonymous", "c"));
    assert_false(may(&file, "anonymous", "a"));
    knit_policy_file_fini(&file);
}

static void a_star_is_any_run_but_stands_for_no_method(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool matches;
    } cases[] = {{"*", "add", true}, {"*", "$/stats", false}, {"$/*", "$/stats", true},
        {"$/*", "add", false}, {"a*", "add", true}, {"a*", "$/attach", false},
        {"*d*d", "add", true}, {"a*dd", "add", true}, {"a*ddd", "add", false},
        {"*.b.*", "a.b.c", true}, {"*.b.*", "a.c.b", false}, {"**", "a", true}, {"a*", "a", true},
        {"add", "add", true}, {"add", "addd", false}, {"a*b*c", "abbcbc", true},
        {"a*b*c", "abbcb", false}, {"$/t*", "$/tasks", true}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            knit_policy_matches(cases[i].pattern, cases[i].name, strlen(cases[i].name)),
            cases[i].matches);
}

static void limits_are_the_own_ones_else_the_groups(void **state)
{
    struct knit_policy_file file =
        read_text("[group g]\nmembers = uid:1 gid:7\nweight = 4\ncalls_in_flight = 10\n"
                  "over_limit = refuse\n"
                  "[group h]\nmembers = gid:8\nweight = 2\nbytes_per_second = 64MiB\n"
                  "[principal uid:1]\nallow = x\n"
                  "[principal uid:2]\nweight = 9\n");
    const char *uid1[] = {"uid:1"}, *both[] = {"uid:3", "gid:7", "gid:8"},
               *own[] = {"uid:2", "gid:7"};
    struct knit_policy_limits limits;

    (void)state;
    limits = knit_policy_limits_of(&file, &(struct knit_policy_names){uid1, 1});
    assert_int_equal(limits.weight, 4);
    assert_int_equal(limits.calls_in_flight, 10);
    assert_int_equal(limits.over_limit, KNIT_POLICY_OVER_REFUSE);
    limits = knit_policy_limits_of(&file, &(struct knit_policy_names){both, 3});
    assert_int_equal(limits.weight, 2);
    assert_int_equal(limits.calls_in_flight, 10);
    assert_int_equal(limits.bytes_per_second, 64 << 20);
    limits = knit_policy_limits_of(&file, &(struct knit_policy_names){own, 2});
    assert_int_equal(limits.weight, 9);
    assert_int_equal(limits.calls_in_flight, 0);
    knit_policy_file_fini(&file);
}

static void each_mistake_is_named_with_its_line(void **state)
{
    static const struct {
        const char *text, *part;
    } cases[] = {{"allow = a\n", "f:1: expected [group NAME] or [principal NAME] before"},
        {"[grup a]\n", "f:1: expected [group NAME] or [principal NAME]"},
        {"[group]\n", "f:1: expected [group NAME] or [principal NAME]"},
        {"[group a b]\n", "f:1: expected one name"}, {"[group a\n", "f:1: expected ]"},
        {"[group a]\nallow\n", "f:2: expected [group NAME], [principal NAME], key = value"},
        {"[group a]\nalow = x\n", "f:2: unknown key 'alow'"},
        {"[group a]\nallow =\n", "f:2: allow: expected a value"},
        {"[group a]\n\n[group a]\n", "f:3: [group a] stands on line 1 already"},
        {"[group a]\nallow = x, y\n", "f:2: 'x,': expected names of tasks"},
        {"[group a]\nallow = $/stat\n", "the nearest is $/stats"},
        {"[group a]\nallow = $/\n", "f:2: '$/' is no name"},
        {"[group a]\nmembers = tokn:x\n", "f:2: 'tokn:x': expected anonymous, token:NAME"},
        {"[group a]\nmembers = token:\n", "f:2: 'token:': expected anonymous"},
        {"[group a]\nmembers = uid:x\n", "f:2: 'uid:x': expected a number"},
        {"[principal uid:4294967295]\n", "expected a number from 0 to 4294967294"},
        {"[principal uid:99999999999]\n", "expected a number from 0 to 4294967294"},
        {"[group a]\nmembers = gid:007\n", "f:2: 'gid:007': expected a number"},
        {"[group a]\nmembers = user:*\n", "uid:* are all users"},
        {"[principal a]\n", "f:1: 'a': expected anonymous"},
        {"[principal token:*]\n", "f:1: 'token:*': a * stands in the members"},
        {"[principal gid:5]\n", "f:1: 'gid:5' is a member of a [group], and no principal"},
        {"[principal token:a]\nmembers = token:b\n", "f:2: members are a [group]'s"},
        {"[group a]\nallow = b\n", "f:1: [group a] has no members; expected a line members ="},
        {"\n[group a]\ndeny = b\n", "f:2: [group a] has no members"},
        {"[group a]\nweight = 2\n", "f:1: [group a] has no members"},
        {"[group a]\nweight = 0\n", "f:2: weight: expected a number from 1 to 1000"},
        {"[group a]\nweight = 1\nweight = 2\n", "f:3: weight stands in this section already"},
        {"[group a]\ncalls_per_second = 1e3\n", "f:2: calls_per_second: expected a number"},
        {"[group a]\nbytes_per_second = 5MB\n", "or with KiB, MiB or GiB right behind it"},
        {"[group a]\nover_limit = waits\n", "f:2: over_limit: expected refuse or wait"},
        {"[group a]\nover_limit = drop\n", "f:2: over_limit: expected refuse"},
        {"[group a]\nover_limit = refuse\nover_limit = refuse\n", "f:3: over_limit stands"},
        {"[group a]\nmembers = uid:1\nweight = 1\n[group b]\nmembers = uid:1\nweight = 2\n",
            "which has other limits"}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].text, cases[i].part);
}

static bool on_name(bool is_group, const char *name, struct knit_policy_word *word)
{
    if (strcmp(name, "nobody") == 0)
        return false;
    (void)snprintf(word->id, sizeof(word->id), is_group ? "gid:5" : "uid:5");
    return true;
}

static void names_of_users_are_their_ids(void **state)
{
    static const char text[] =
        "[principal user:me]\nallow = a\n[group g]\nmembers = unix-group:us\n"
        "allow = b\n",
                      twice[] = "[principal user:me]\n[principal uid:5]\n",
                      unknown[] = "[group g]\nmembers = user:me user:nobody\n";
    struct knit_policy_file file = read_text(text);
    struct knit_sentence why;

    (void)state;
    assert_int_equal(knit_policy_file_each_name(&file, "f", on_name, &why), 0);
    assert_true(may(&file, "uid:5", "a"));
    assert_false(may(&file, "uid:5", "b"));
    assert_true(may(&file, "uid:6 gid:5", "b"));
    assert_false(may(&file, "user:me", "a"));
    knit_policy_file_fini(&file);
    file = read_text(twice);
    assert_int_equal(knit_policy_file_each_name(&file, "f", on_name, &why), 0);
    assert_int_equal(knit_policy_file_check(&file, "f", &why), KNIT_POLICY_E_REFUSED);
    assert_non_null(strstr(why.text, "f:2: [principal uid:5] is [principal user:me] of line 1"));
    knit_policy_file_fini(&file);
    file = read_text(unknown);
    assert_int_equal(knit_policy_file_each_name(&file, "f", on_name, &why), KNIT_POLICY_E_REFUSED);
    assert_string_equal(why.text, "f:2: this machine has no such user or group: user:nobody");
    knit_policy_file_fini(&file);
}

static bool is_refused(const char *text)
{
    struct knit_policy_file file = {0};
    struct knit_sentence why = {""};
    int r;

    assert_int_equal(knit_policy_file_read(&file, "f", text, strlen(text), &why), 0);
    r = knit_policy_file_check(&file, "f", &why);
    knit_policy_file_fini(&file);
    return r != 0;
}

/* Two groups with other limits have a member in common where one's pattern stands for a name or a
 * pattern of the other one. */
static void patterns_of_groups_with_other_limits_are_compared(void **state)
{
    static const struct {
        const char *one, *other;
        bool is_refused;
    } cases[] = {{"token:x", "token:*", true}, {"token:*", "token:x", true},
        {"token:a*", "token:b*", false}, {"token:a*", "token:*b", true}, {"*", "anonymous", true},
        {"uid:*", "gid:*", false}, {"uid:*", "token:*", false}, {"*", "uid:*", true},
        {"token:ab*", "token:a*c*", true}, {"token:ab*", "token:ac*b", false},
        {"token:*x*y", "token:x*", true}, {"token:a*b", "token:ab", true},
        {"token:a*b", "token:a", false}, {"token:*a", "token:*b", false}};
    static const char own[] = "[principal token:x]\ncalls_in_flight = 3\n[principal token:y]\n"
                              "allow = a\n";
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_policy_file file;

        (void)snprintf(text, sizeof(text),
            "[group a]\nmembers = %s\nweight = 2\n[group b]\nmembers = %s\nweight = 3\n",
            cases[i].one, cases[i].other);
        if (cases[i].is_refused) {
            refused(text, " has other limits; give it a [principal]");
        } else {
            file = read_text(text);
            knit_policy_file_fini(&file);
        }
        /* The same limits, or none, are no mistake. */
        for (const char *limit = "23"; *limit != '\0'; limit++) {
            (void)snprintf(text, sizeof(text),
                "[group a]\nmembers = %s\n%sweight = 2\n[group b]\nmembers = %s\nweight = 2\n",
                cases[i].one, *limit == '2' ? "" : "#", cases[i].other);
            file = read_text(text);
            knit_policy_file_fini(&file);
        }
    }
    for (const char *name = "xyz"; *name != '\0'; name++) {
        (void)snprintf(text, sizeof(text),
            "%s[group a]\nmembers = token:%c\nweight = 2\n[group b]\nmembers = token:*\nweight = "
            "3\n",
            own, *name);
        if (*name == 'x') {
            struct knit_policy_file file = read_text(text);

            knit_policy_file_fini(&file);
        } else {
            refused(text, "f:6: token:");
        }
    }
}

/* Of processor time, with a thousand members in each of two groups with other limits. */
static double seconds_of_check(const char *begin, const char *one, const char *other)
{
    enum { MEMBERS = 1000, LINE = 64 };
    const char *const ends[] = {one, other};
    char *text = malloc(2 * (MEMBERS + 2) * LINE);
    struct knit_policy_file file;
    size_t len = 0;
    clock_t began;

    for (int group = 0; group < 2; group++) {
        len += (size_t)snprintf(
            text + len, LINE, "[group %c]\nweight = %d\nmembers =", 'a' + group, group + 2);
        for (int i = 0; i < MEMBERS; i++)
            len += (size_t)snprintf(text + len, LINE, " %s%d%s", begin, i, ends[group]);
        len += (size_t)snprintf(text + len, LINE, "\n");
    }
    began = clock();
    file = read_text(text);
    knit_policy_file_fini(&file);
    free(text);
    return (double)(clock() - began) / CLOCKS_PER_SEC;
}

/* A million pairs of patterns that differ at an end, within ten times what it takes. */
static void many_patterns_are_compared_soon(void **state)
{
    const double begins = seconds_of_check("token:team-", "-of-one-*", "-of-other-*");
    const double ends = seconds_of_check("token:*-", "-of-one", "-of-other");

    (void)state;
    printf("%.3f s and %.3f s\n", begins, ends);
    assert_true(begins * 1e9 < (double)knit_deadline_stretched_ns(300000000));
    assert_true(ends * 1e9 < (double)knit_deadline_stretched_ns(300000000));
}

/* As the words of policy.h say it, for any pattern: whoever tries all places. */
static bool fits_somehow(const char *pattern, const char *name)
{
    if (*pattern == '\0')
        return *name == '\0';
    if (*pattern == '*')
        return fits_somehow(pattern + 1, name) ||
               (*name != '\0' && fits_somehow(pattern, name + 1));
    return *name == *pattern && fits_somehow(pattern + 1, name + 1);
}

static void patterns_match_as_if_all_places_were_tried(void **state)
{
    struct knit_random random;
    uint32_t matched = 0;

    (void)state;
    knit_random_init(&random);
    for (uint32_t round = 0; round < 100000; round++) {
        char pattern[9] = "", name[11] = "";
        bool does;

        for (uint64_t at = knit_random_below(&random, sizeof(pattern)); at > 0; at--)
            pattern[at - 1] = "ab*"[knit_random_below(&random, 3)];
        for (uint64_t at = knit_random_below(&random, sizeof(name)); at > 0; at--)
            name[at - 1] = "ab"[knit_random_below(&random, 2)];
        does = knit_policy_matches(pattern, name, strlen(name));
        if (does != fits_somehow(pattern, name))
            fail_msg("'%s' and '%s': %d", pattern, name, does);
        matched += does;
    }
    assert_in_range(matched, 1000, 90000);
}

static bool have_a_name_in_common(const char *one, const char *other)
{
    enum { LEN_MAX = 10 };

    for (uint32_t len = 0; len <= LEN_MAX; len++) {
        for (uint32_t bits = 0; bits < 1u << len; bits++) {
            char name[LEN_MAX + 1] = "";

            for (uint32_t at = 0; at < len; at++)
                name[at] = "ab"[bits >> at & 1];
            if (fits_somehow(one, name) && fits_somehow(other, name))
                return true;
        }
    }
    return false;
}

/* Members that are patterns of two groups with other limits. */
static void patterns_overlap_as_if_all_names_were_tried(void **state)
{
    struct knit_random random;
    uint32_t overlapped = 0;

    (void)state;
    knit_random_init(&random);
    for (uint32_t round = 0; round < 1000; round++) {
        char pattern[2][6] = {"*", "*"}, text[200];
        struct knit_policy_file file = {0};
        struct knit_sentence why = {""};
        bool do_overlap;

        for (int i = 0; i < 2; i++) {
            uint64_t len = 1 + knit_random_below(&random, 5),
                     star = knit_random_below(&random, len);

            for (uint64_t at = 0; at < len; at++)
                pattern[i][at] = at == star ? '*' : "abb*"[knit_random_below(&random, 4)];
        }
        (void)snprintf(text, sizeof(text),
            "[group a]\nweight = 1\nmembers = token:%s\n[group b]\nweight = 2\nmembers = "
            "token:%s\n",
            pattern[0], pattern[1]);
        assert_int_equal(knit_policy_file_read(&file, "f", text, strlen(text), &why), 0);
        do_overlap = knit_policy_file_check(&file, "f", &why) != 0;
        if (do_overlap != have_a_name_in_common(pattern[0], pattern[1]))
            fail_msg("'%s' and '%s': %d", pattern[0], pattern[1], do_overlap);
        overlapped += do_overlap;
        knit_policy_file_fini(&file);
    }
    assert_in_range(overlapped, 100, 900);
}

/* The whole file is right if each two of its groups are. */
static void many_groups_are_compared_as_each_two_are(void **state)
{
    enum { GROUPS = 4, MEMBERS = 2 };
    struct knit_random random;
    uint32_t refused_count = 0;

    (void)state;
    knit_random_init(&random);
    for (uint32_t round = 0; round < 3000; round++) {
        char groups[GROUPS][128], text[GROUPS * 128] = "";
        size_t text_len = 0;
        bool is_wrong = false;

        for (uint32_t i = 0; i < GROUPS; i++) {
            size_t len = (size_t)snprintf(groups[i], sizeof(groups[i]),
                "[group g%u]\nweight = %u\nmembers =", i,
                1 + (uint32_t)knit_random_below(&random, 3));

            for (uint32_t at = 0; at < MEMBERS; at++) {
                char name[5];

                for (uint32_t place = 0; place < 4; place++)
                    name[place] = "abc!-abc!-a*"[knit_random_below(&random, place > 0 ? 12 : 11)];
                name[4] = '\0';
                len +=
                    (size_t)snprintf(groups[i] + len, sizeof(groups[i]) - len, " token:%s", name);
            }
            (void)snprintf(groups[i] + len, sizeof(groups[i]) - len, "\n");
            text_len += (size_t)snprintf(text + text_len, sizeof(text) - text_len, "%s", groups[i]);
        }
        for (uint32_t i = 0; i < GROUPS; i++) {
            for (uint32_t other = 0; other < i; other++) {
                char two[GROUPS * 128];

                (void)snprintf(two, sizeof(two), "%s%s", groups[other], groups[i]);
                is_wrong |= is_refused(two);
            }
        }
        if (is_refused(text) != is_wrong)
            fail_msg("%s: %d", text, is_wrong);
        refused_count += is_wrong;
    }
    assert_in_range(refused_count, 300, 2700);
}

/* Groups with so many members each, and limits of their own. */
static char *make_groups(uint32_t count, uint32_t members, const char *begin, const char *end)
{
    const size_t size = (size_t)count * (members + 2) * 32;
    char *text = malloc(size);
    size_t len = 0;

    for (uint32_t group = 0; group < count; group++) {
        len += (size_t)snprintf(
            text + len, size - len, "[group g%u]\nweight = %u\nmembers =", group, group + 1);
        for (uint32_t i = 0; i < members; i++)
            len += (size_t)snprintf(text + len, size - len, " %s%u-%u%s", begin, group, i, end);
        len += (size_t)snprintf(text + len, size - len, "\n");
    }
    return text;
}

/* As many as a file may have. Compared in pairs they take half a minute. */
static void patterns_that_begin_apart_are_not_compared(void **state)
{
    char *text = make_groups(60, 1000, "token:", "*");
    const clock_t began = clock();

    (void)state;
    assert_false(is_refused(text));
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC * 1e9 <
                (double)knit_deadline_stretched_ns(UINT64_C(1000000000)));
    free(text);
}

static void of_patterns_that_begin_alike_there_may_be_some_thousand(void **state)
{
    char *text = make_groups(2, 2000, "token:*", "");

    (void)state;
    assert_false(is_refused(text));
    free(text);
    text = make_groups(1, 20000, "token:*", "");
    assert_false(is_refused(text));
    free(text);
    text = make_groups(2, 10000, "token:*", "");
    refused(text, "expected patterns that begin with more than token:");
    free(text);
}

static void comments_and_blanks_are_no_rules(void **state)
{
    struct knit_policy_file file =
        read_text("# a\n  [group g] # b\r\n\tmembers=cert:uri:spiffe://a/b#c token:x # token:y\n"
                  " allow\t=  a   b\t\n");

    (void)state;
    assert_true(may(&file, "cert:uri:spiffe://a/b#c", "a"));
    assert_true(may(&file, "token:x", "b"));
    assert_false(may(&file, "token:y", "b"));
    knit_policy_file_fini(&file);
}

/* Pieces of real lines in any order, and bytes that change: it is read or refused, and what was
 * allocated is freed, which the sanitizers' builds see. */
static void any_bytes_are_read_or_refused(void **state)
{
    static const char *const pieces[] = {"[group ", "[principal ", "a", "]", "\n",
        "allow = ", "deny=", "members = ", "token:", "uid:1 ", "*", "$/", "$/tasks ",
        "weight = 3\n", "#", " ", "\xff", "over_limit = wait\n",
        "calls_in_flight = 99999999999999999999\n"};
    struct knit_random random;
    uint32_t taken = 0;

    (void)state;
    knit_random_init(&random);
    for (uint32_t round = 0; round < 20000; round++) {
        struct knit_policy_file file = {0};
        struct knit_sentence why = {""};
        char text[1024] = "";
        size_t len = 0;

        for (uint64_t left = knit_random_below(&random, 24); left > 0; left--)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                pieces[knit_random_below(&random, sizeof(pieces) / sizeof(pieces[0]))]);
        if (knit_policy_file_read(&file, "f", text, strlen(text), &why) == 0)
            taken += knit_policy_file_check(&file, "f", &why) == 0;
        else
            assert_int_not_equal(why.text[0], '\0');
        knit_policy_file_fini(&file);
    }
    assert_true(taken > 100);
}

static void there_are_bounds(void **state)
{
    struct knit_policy_file file = {0};
    struct knit_sentence why;
    size_t len = KNIT_POLICY_FILE_BYTES_MAX + 1;
    char *text = calloc(1, len + 1);

    (void)state;
    memset(text, '\n', len);
    assert_int_equal(knit_policy_file_read(&file, "f", text, len, &why), KNIT_POLICY_E_REFUSED);
    assert_int_equal(knit_policy_file_read(&file, "f", text, len - 1, &why), 0);
    knit_policy_file_fini(&file);
    text[5] = '\0';
    assert_int_equal(knit_policy_file_read(&file, "f", text, len - 1, &why), KNIT_POLICY_E_REFUSED);
    len = 0;
    for (unsigned i = 0; i <= KNIT_POLICY_SECTIONS_MAX; i++)
        len += (size_t)snprintf(text + len, 32, "[group %u]\n", i);
    assert_int_equal(knit_policy_file_read(&file, "f", text, len, &why), KNIT_POLICY_E_REFUSED);
    assert_non_null(strstr(why.text, "more than 4096 sections"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_section_allows_is_denied),
        cmocka_unit_test(one_deny_wins_wherever_it_stands),
        cmocka_unit_test(sections_add_up),
        cmocka_unit_test(a_star_is_any_run_but_stands_for_no_method),
        cmocka_unit_test(limits_are_the_own_ones_else_the_groups),
        cmocka_unit_test(each_mistake_is_named_with_its_line),
        cmocka_unit_test(names_of_users_are_their_ids),
        cmocka_unit_test(comments_and_blanks_are_no_rules),
        cmocka_unit_test(patterns_of_groups_with_other_limits_are_compared),
        cmocka_unit_test(many_patterns_are_compared_soon),
        cmocka_unit_test(patterns_match_as_if_all_places_were_tried),
        cmocka_unit_test(patterns_overlap_as_if_all_names_were_tried),
        cmocka_unit_test(many_groups_are_compared_as_each_two_are),
        cmocka_unit_test(patterns_that_begin_apart_are_not_compared),
        cmocka_unit_test(of_patterns_that_begin_alike_there_may_be_some_thousand),
        cmocka_unit_test(any_bytes_are_read_or_refused),
        cmocka_unit_test(there_are_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
