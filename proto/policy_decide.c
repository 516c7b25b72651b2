/* SPDX-License-Identifier: Apache-2.0 */
/* The meaning of a policy file, said once, by comparing texts. What runs beside calls is compiled
 * from it and has to decide the same (server/policy/policy.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/policy.h"

static bool begins_with(const char *text, size_t len, const char *start)
{
    size_t start_len = strlen(start);

    return len >= start_len && memcmp(text, start, start_len) == 0;
}

/* What stands before the first star and behind the last has one place each. What stands between two
 * is taken where it comes first, which leaves the most to those behind it, so nothing is looked at
 * again: the time does not grow with the number of stars. */
static bool fits(const char *pattern, const char *name, size_t len)
{
    const char *star = strchr(pattern, '*'), *last = strrchr(pattern, '*'), *next, *found;
    size_t before, behind, size;

    if (star == NULL)
        return strlen(pattern) == len && memcmp(pattern, name, len) == 0;
    before = (size_t)(star - pattern);
    behind = strlen(last + 1);
    if (len < before || len - before < behind || memcmp(pattern, name, before) != 0 ||
        memcmp(last + 1, name + len - behind, behind) != 0)
        return false;
    name += before;
    len -= before + behind;
    for (; star < last; star = next) {
        next = strchr(star + 1, '*');
        size = (size_t)(next - star) - 1;
        found = memmem(name, len, star + 1, size);
        if (found == NULL)
            return false;
        len -= (size_t)(found - name) + size;
        name = found + size;
    }
    return true;
}

bool knit_policy_matches(const char *pattern, const char *name, size_t len)
{
    if (begins_with(name, len, "$/") && !begins_with(pattern, strlen(pattern), "$/"))
        return false;
    return fits(pattern, name, len);
}

static const char *text_of(const struct knit_policy_word *word)
{
    return word->id[0] != '\0' ? word->id : word->text;
}

static bool is_named(const struct knit_policy_word *word, const struct knit_policy_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        if (fits(text_of(word), names->items[i], strlen(names->items[i])))
            return true;
    return false;
}

bool knit_policy_applies(
    const struct knit_policy_section *section, const struct knit_policy_names *names)
{
    if (!section->is_group)
        return is_named(&section->own, names);
    for (size_t i = 0; i < section->members.count; i++)
        if (is_named(&section->members.items[i], names))
            return true;
    return false;
}

static const struct knit_policy_word *find(
    const struct knit_policy_words *words, const char *name, size_t len)
{
    for (size_t i = 0; i < words->count; i++)
        if (knit_policy_matches(words->items[i].text, name, len))
            return &words->items[i];
    return NULL;
}

struct knit_policy_verdict knit_policy_decide(const struct knit_policy_file *file,
    const struct knit_policy_names *names, const char *name, size_t len)
{
    struct knit_policy_verdict verdict = {0};

    for (size_t i = 0; i < file->count; i++) {
        const struct knit_policy_section *section = &file->sections[i];
        const struct knit_policy_word *word;

        if (!knit_policy_applies(section, names))
            continue;
        word = find(&section->deny, name, len);
        if (word != NULL)
            return (struct knit_policy_verdict){false, section, word};
        word = verdict.word == NULL ? find(&section->allow, name, len) : NULL;
        if (word != NULL)
            verdict = (struct knit_policy_verdict){true, section, word};
    }
    return verdict;
}

const struct knit_policy_section *knit_policy_gives(
    const struct knit_policy_file *file, const struct knit_policy_names *names)
{
    for (size_t i = 0; i < file->count; i++)
        if (file->sections[i].allow.count > 0 && knit_policy_applies(&file->sections[i], names))
            return &file->sections[i];
    return NULL;
}

/* ---- limits -------------------------------------------------------------------------------- */

static bool sets_limits(const struct knit_policy_section *section)
{
    const struct knit_policy_limits *limits = &section->limits;

    return limits->weight != 0 || limits->calls_in_flight != 0 || limits->calls_per_second != 0 ||
           limits->bytes_per_second != 0 || limits->over_limit != KNIT_POLICY_OVER_NOT_SAID;
}

static void lower(uint64_t *limit, uint64_t other)
{
    if (other != 0 && (*limit == 0 || other < *limit))
        *limit = other;
}

struct knit_policy_limits knit_policy_limits_of(
    const struct knit_policy_file *file, const struct knit_policy_names *names)
{
    struct knit_policy_limits least = {0};

    for (size_t i = 0; i < file->count; i++) {
        const struct knit_policy_section *section = &file->sections[i];

        if (!sets_limits(section) || !knit_policy_applies(section, names))
            continue;
        if (!section->is_group)
            return section->limits;
        lower(&least.weight, section->limits.weight);
        lower(&least.calls_in_flight, section->limits.calls_in_flight);
        lower(&least.calls_per_second, section->limits.calls_per_second);
        lower(&least.bytes_per_second, section->limits.bytes_per_second);
        if (section->limits.over_limit != KNIT_POLICY_OVER_NOT_SAID &&
            least.over_limit != KNIT_POLICY_OVER_REFUSE)
            least.over_limit = section->limits.over_limit;
    }
    return least;
}

/* ---- what only the whole file shows -------------------------------------------------------- */

int knit_policy_file_each_name(struct knit_policy_file *file, const char *path,
    knit_policy_on_name *on_name, struct knit_sentence *why)
{
    for (size_t i = 0; i < file->count; i++) {
        struct knit_policy_section *section = &file->sections[i];
        size_t count = section->is_group ? section->members.count : 1;

        for (size_t at = 0; at < count; at++) {
            struct knit_policy_word *word =
                section->is_group ? &section->members.items[at] : &section->own;
            size_t len = strlen(word->text);
            bool is_user = begins_with(word->text, len, "user:");

            if (!is_user && !begins_with(word->text, len, "unix-group:"))
                continue;
            if (!on_name(!is_user, strchr(word->text, ':') + 1, word))
                return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
                    "%s:%u: this machine has no such user or group: %s", path, word->line,
                    word->text);
        }
    }
    return 0;
}

/* How many members of groups with other limits are compared with patterns, which takes about a
 * second: ten thousand patterns that begin alike. */
enum { COMPARED_MAX = 50 * 1000 * 1000 };

/* A name, and the section that speaks of it. */
struct mention {
    const struct knit_policy_word *word;
    const struct knit_policy_section *section;
    size_t next; /* in their order: the next one whose section has other limits */
};

/* By the name, of one name its own section first. */
static int compare(const void *one, const void *other)
{
    const struct mention *a = one, *b = other;
    int order = strcmp(text_of(a->word), text_of(b->word));

    return order != 0 ? order : (int)a->section->is_group - (int)b->section->is_group;
}

static bool has_same_limits(
    const struct knit_policy_section *one, const struct knit_policy_section *other)
{
    return one->limits.weight == other->limits.weight &&
           one->limits.calls_in_flight == other->limits.calls_in_flight &&
           one->limits.calls_per_second == other->limits.calls_per_second &&
           one->limits.bytes_per_second == other->limits.bytes_per_second &&
           one->limits.over_limit == other->limits.over_limit;
}

/* Of the mentions of one name. */
static int check_name(
    const struct mention *mentions, size_t count, const char *path, struct knit_sentence *why)
{
    const struct mention *first = NULL;

    if (count > 1 && !mentions[1].section->is_group)
        return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
            "%s:%u: [principal %s] is [principal %s] of line %u", path, mentions[1].word->line,
            mentions[1].word->text, mentions[0].word->text, mentions[0].word->line);
    if (!mentions[0].section->is_group && sets_limits(mentions[0].section))
        return 0;
    for (size_t i = 0; i < count; i++) {
        const struct mention *mention = &mentions[i];

        if (!sets_limits(mention->section))
            continue;
        if (first == NULL)
            first = mention;
        else if (!has_same_limits(first->section, mention->section))
            return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
                "%s:%u: %s is in [group %s] too, which has other limits; give it a [principal] "
                "with its own",
                path, mention->word->line, mention->word->text, first->section->name);
    }
    return 0;
}

/* Whether there may be a name that both patterns stand for: whenever one can begin and end as both
 * do. What stands between the stars of the one and then of the other can follow each other in it,
 * for each has a star that takes what is not its own. */
static bool overlap(const char *one, const char *other)
{
    size_t one_len = strlen(one), other_len = strlen(other);

    for (size_t at = 0; one[at] != '*' && other[at] != '*'; at++)
        if (one[at] != other[at])
            return false;
    while (one[one_len - 1] != '*' && other[other_len - 1] != '*')
        if (one[--one_len] != other[--other_len])
            return false;
    return true;
}

static bool is_pattern(const struct mention *mention)
{
    return strchr(mention->word->text, '*') != NULL;
}

/* Whether a name, whose mentions stand together, its own section first, has limits of its own. */
static bool has_own_limits(const struct mention *mentions, size_t at)
{
    const char *name = text_of(mentions[at].word);

    while (at > 0 && strcmp(text_of(mentions[at - 1].word), name) == 0)
        at--;
    return !mentions[at].section->is_group && sets_limits(mentions[at].section);
}

/* The first one whose text is not before all that begin so. */
static size_t find_first(
    const struct mention *mentions, size_t count, const char *start, size_t len)
{
    size_t first = 0, end = count;

    while (first < end) {
        size_t middle = first + (end - first) / 2;

        if (strncmp(text_of(mentions[middle].word), start, len) < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return first;
}

/* Whether the pattern stands for a name that the other one stands for as well. */
static bool meets(const struct mention *mentions, size_t pattern, size_t other)
{
    const char *text = text_of(mentions[pattern].word), *name = text_of(mentions[other].word);

    if (!mentions[other].section->is_group)
        return false;
    if (is_pattern(&mentions[other]))
        return overlap(text, name);
    return fits(text, name, strlen(name)) && !has_own_limits(mentions, other);
}

/* A pattern among the members of a group, with those of others that begin as it does: one that
 * begins with less finds this one. */
static int check_pattern(const struct mention *mentions, size_t count, size_t at, size_t *left,
    const char *path, struct knit_sentence *why)
{
    const struct mention *pattern = &mentions[at], *other;
    const char *text = text_of(pattern->word);
    const size_t len = strcspn(text, "*");

    for (size_t i = find_first(mentions, count, text, len), next; i < count; i = next) {
        other = &mentions[i];
        next = i + 1;
        if (strncmp(text_of(other->word), text, len) != 0)
            break;
        if (!sets_limits(other->section) || has_same_limits(other->section, pattern->section)) {
            next = other->next;
            continue;
        }
        /* Two that begin as far are compared once. */
        if (i < at && text_of(other->word)[len] == '*')
            continue;
        if (--*left == 0)
            return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
                "%s:%u: %s: too many members of groups with other limits begin like it; expected "
                "patterns that begin with more than %.*s",
                path, pattern->word->line, pattern->word->text, (int)len, text);
        if (meets(mentions, at, i))
            return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
                "%s:%u: %s is in [group %s] too, as %s of line %u, which has other limits; give it "
                "a [principal] with its own, or the groups other members",
                path, other->word->line, other->word->text, pattern->section->name,
                pattern->word->text, pattern->word->line);
    }
    return 0;
}

static int check_patterns(
    struct mention *mentions, size_t count, const char *path, struct knit_sentence *why)
{
    size_t left = COMPARED_MAX;
    int r = 0;

    for (size_t i = count; i-- > 0;)
        mentions[i].next =
            i + 1 < count && has_same_limits(mentions[i].section, mentions[i + 1].section)
                ? mentions[i + 1].next
                : i + 1;
    for (size_t at = 0; r == 0 && at < count; at++)
        if (is_pattern(&mentions[at]) && sets_limits(mentions[at].section))
            r = check_pattern(mentions, count, at, &left, path, why);
    return r;
}

/* It would say what it says of nobody. */
static int check_group(
    const struct knit_policy_section *section, const char *path, struct knit_sentence *why)
{
    if (!section->is_group || section->members.count > 0 ||
        (section->allow.count == 0 && section->deny.count == 0 && !sets_limits(section)))
        return 0;
    return knit_sentence_set(why, KNIT_POLICY_E_REFUSED,
        "%s:%u: [group %s] has no members; expected a line members =, or no group", path,
        section->line, section->name);
}

int knit_policy_file_check(
    const struct knit_policy_file *file, const char *path, struct knit_sentence *why)
{
    struct mention *mentions = calloc(file->words + file->count + 1, sizeof(*mentions));
    size_t count = 0, end;
    int r = 0;

    if (mentions == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < file->count && r == 0; i++) {
        const struct knit_policy_section *section = &file->sections[i];

        r = check_group(section, path, why);

        if (!section->is_group)
            mentions[count++] = (struct mention){&section->own, section, 0};
        for (size_t at = 0; at < section->members.count; at++)
            mentions[count++] = (struct mention){&section->members.items[at], section, 0};
    }
    qsort(mentions, count, sizeof(*mentions), compare);
    for (size_t begin = 0; r == 0 && begin < count; begin = end) {
        for (end = begin + 1;
             end < count && strcmp(text_of(mentions[begin].word), text_of(mentions[end].word)) == 0;
             end++)
            continue;
        r = check_name(&mentions[begin], end - begin, path, why);
    }
    if (r == 0)
        r = check_patterns(mentions, count, path, why);
    free(mentions);
    return r;
}
