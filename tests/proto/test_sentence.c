/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences: set, appended to, prefixed; and cut at every length around their size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sentence.h"

enum { CODE = 7 };

static char filling[2 * KNIT_SENTENCE_MAX];

static void a_sentence_is_replaced_when_it_is_set(void **state)
{
    struct knit_sentence sentence = {"before"};

    (void)state;
    assert_int_equal(knit_sentence_set(&sentence, CODE, "%s: line %d", "file", 3), CODE);
    assert_string_equal(sentence.text, "file: line 3");
    assert_false(knit_sentence_is_empty(&sentence));
    (void)knit_sentence_set(&sentence, 0, "%s", "");
    assert_true(knit_sentence_is_empty(&sentence));
}

static void clauses_are_joined_by_semicolons(void **state)
{
    struct knit_sentence sentence = {""};

    (void)state;
    assert_int_equal(knit_sentence_append(&sentence, CODE, "one"), CODE);
    assert_string_equal(sentence.text, "one");
    (void)knit_sentence_append(&sentence, 0, "%d", 2);
    assert_string_equal(sentence.text, "one; 2");
}

static void a_prefix_comes_before_the_text(void **state)
{
    struct knit_sentence sentence = {"is wrong"};

    (void)state;
    knit_sentence_prefix(&sentence, "line 3");
    assert_string_equal(sentence.text, "line 3: is wrong");
}

/* Nothing is written beyond the structure, and as much of the text stays as fits. */
static void what_does_not_fit_is_cut(void **state)
{
    struct {
        struct knit_sentence sentence;
        char guard[64];
    } cut;

    (void)state;
    memset(filling, 'x', sizeof(filling) - 1);
    for (size_t used = KNIT_SENTENCE_MAX - 8; used < KNIT_SENTENCE_MAX + 8; used++) {
        size_t kept = used < KNIT_SENTENCE_MAX ? used : KNIT_SENTENCE_MAX - 1;

        memset(&cut, 'g', sizeof(cut));
        (void)knit_sentence_set(&cut.sentence, 0, "%.*s", (int)used, filling);
        assert_int_equal(strlen(cut.sentence.text), kept);
        (void)knit_sentence_append(&cut.sentence, 0, "%s", "appended");
        assert_memory_equal(cut.sentence.text, filling, kept);
        assert_true(strlen(cut.sentence.text) < KNIT_SENTENCE_MAX);
        knit_sentence_prefix(&cut.sentence, "line 3");
        assert_memory_equal(cut.sentence.text, "line 3: xxxx", 12);
        assert_true(strlen(cut.sentence.text) < KNIT_SENTENCE_MAX);
        for (size_t i = 0; i < sizeof(cut.guard); i++)
            assert_int_equal(cut.guard[i], 'g');
    }
    (void)knit_sentence_set(&cut.sentence, 0, "stays");
    knit_sentence_prefix(&cut.sentence, filling);
    assert_string_equal(cut.sentence.text, "stays");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sentence_is_replaced_when_it_is_set),
        cmocka_unit_test(clauses_are_joined_by_semicolons),
        cmocka_unit_test(a_prefix_comes_before_the_text),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
