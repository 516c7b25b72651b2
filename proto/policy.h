/* SPDX-License-Identifier: Apache-2.0 */
/* What a policy file says: who may call which task, and how much of it.
 *
 *     [group batch]
 *     members = token:nightly user:backup unix-group:ops
 *     allow = resize report.* $/tasks
 *     deny = report.delete
 *
 *     [principal token:billing]
 *     allow = * $/attach
 *     weight = 4
 *     calls_in_flight = 256
 *     over_limit = refuse
 *
 * A principal is known by names: one of its own, and those of the groups that it is in. A section
 * applies to those whose name it is, or whose name it lists as a member. What all sections
 * that apply allow is allowed, but for what one of them denies: their order means nothing, and what
 * none allows is denied. A `*` stands for any run of characters; it stands for nothing in a method
 * of the protocol unless the pattern begins with `$/`.
 *
 * Limits are those of the principal's own section where it has one that sets any, else those of its
 * groups: the least of each, where they differ. Groups with different ones are refused where it can
 * be seen that they have members in common: not of unix groups, whose members others know. So are
 * some ten thousand patterns of such groups that begin alike: comparing them takes a second.
 *
 * `user:NAME` and `unix-group:NAME` mean ids, which who reads the file looks up and puts in their
 * place (`id` below); they are compared as `uid:N` and `gid:N`.
 *
 * Threads: any number may read; one builds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/sentence.h"

#define KNIT_POLICY_FILE_BYTES_MAX (1u << 20)
#define KNIT_POLICY_SECTIONS_MAX   4096u
#define KNIT_POLICY_WORDS_MAX      65536u /* of all sections */
#define KNIT_POLICY_NAME_MAX       256u   /* of a principal or a group */

enum {
    KNIT_POLICY_E_REFUSED = 1, /* the sentence says where and why */
};

enum knit_policy_over {
    KNIT_POLICY_OVER_NOT_SAID,
    KNIT_POLICY_OVER_REFUSE,
    KNIT_POLICY_OVER_WAIT,
};

/* 0 = not said: a weight of 1, and no limit. */
struct knit_policy_limits {
    uint64_t weight;
    uint64_t calls_in_flight;
    uint64_t calls_per_second;
    uint64_t bytes_per_second;
    enum knit_policy_over over_limit;
};

/* A pattern or the name of a member. */
struct knit_policy_word {
    const char *text; /* as it stands in the file */
    unsigned line;
    char id[16]; /* "uid:1000" or "gid:1000" in place of a user's or group's name; "" = text */
};

struct knit_policy_words {
    struct knit_policy_word *items;
    size_t count;
};

struct knit_policy_section {
    const char *name; /* of the group or of the principal */
    bool is_group;
    unsigned line;
    struct knit_policy_word own; /* of a principal's section: its name, as a member of itself */
    struct knit_policy_words members, allow, deny;
    struct knit_policy_limits limits;
};

struct knit_policy_file {
    char *text; /* what all names point into */
    struct knit_policy_section *sections;
    size_t count;
    size_t words;
};

/* Methods of the protocol that the policy decides about; all others everybody may use. */
extern const char *const knit_policy_methods[]; /* ended by NULL */

/* Reads the text of a file, which is copied. path: for the sentence. The file must be all zeros.
 * Returns 0, KNIT_POLICY_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_policy_file_read(struct knit_policy_file *file, const char *path,
    const char *text, size_t len, struct knit_sentence *why);
/* Accepts a zeroed one. */
void knit_policy_file_fini(struct knit_policy_file *file);

/* Refuses a principal whose groups have different limits while its own section has none, patterns
 * of such groups that stand for the same names, and two sections of one principal by its name and
 * by its id.
 * After the ids were put in. Returns 0, KNIT_POLICY_E_REFUSED, -ENOMEM. */
KNIT_MUST_CHECK int knit_policy_file_check(
    const struct knit_policy_file *file, const char *path, struct knit_sentence *why);

/* Goes over the names of users and groups in the file: those of `user:` and `unix-group:`. The
 * function puts the word's id in; false: there is none. Returns 0, KNIT_POLICY_E_REFUSED. */
typedef bool knit_policy_on_name(bool is_group, const char *name, struct knit_policy_word *word);
KNIT_MUST_CHECK int knit_policy_file_each_name(struct knit_policy_file *file, const char *path,
    knit_policy_on_name *on_name, struct knit_sentence *why);

/* The names by which a principal is known, its own first. */
struct knit_policy_names {
    const char *const *items;
    size_t count;
};

bool knit_policy_applies(
    const struct knit_policy_section *section, const struct knit_policy_names *names);

/* Whether the pattern stands for the name of a task or of a method. */
bool knit_policy_matches(const char *pattern, const char *name, size_t len);

struct knit_policy_verdict {
    bool is_allowed;
    /* By which: both NULL when no section that applies says anything. */
    const struct knit_policy_section *section;
    const struct knit_policy_word *word;
};

struct knit_policy_verdict knit_policy_decide(const struct knit_policy_file *file,
    const struct knit_policy_names *names, const char *name, size_t len);

/* A section by which a principal may do something, whatever others deny of it; NULL: it may do
 * nothing. */
const struct knit_policy_section *knit_policy_gives(
    const struct knit_policy_file *file, const struct knit_policy_names *names);

/* Of all sections that apply. */
struct knit_policy_limits knit_policy_limits_of(
    const struct knit_policy_file *file, const struct knit_policy_names *names);
