/* SPDX-License-Identifier: Apache-2.0 */
/* Each section is compiled once, to a row of what it allows and a row of what it denies; a class is
 * the union of its sections' rows, so making one compares no names of tasks. Equal classes are one,
 * also those of two files, so a reload that changes one section moves the principals of that.
 *
 * A class that no right of the newest file names is used again after knit_policy_settle(), and not
 * before: until then some word may name it.
 */
#include "server/policy/policy.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fastpath/control/registry.h"
#include "server/base/log.h"
#include "server/policy/access.h"
#include "server/policy/authentication.h"

enum { IDLE_LOGGED_MAX = 10, ID_BYTES = 16 };

struct class
{
    uint64_t *row; /* NULL: nobody has had it */
    struct knit_policy_limits limits;
    uint64_t used; /* the last file by which somebody got it */
};

struct knit_policy {
    const struct knit_rights_view *rights;
    const struct knit_registry *registry;
    bool maps_all; /* KNIT_ACCESS_STRANGER is an id like any other */
    pthread_mutex_t mutex;
    struct knit_policy_file file;
    uint64_t *rows;                    /* [2 * sections][words]: what each allows, what it denies */
    struct knit_policy_file next_file; /* that is prepared; the main thread's */
    uint64_t *next_rows;
    uint64_t *scratch; /* [words] */
    struct class classes[KNIT_RIGHTS_CLASSES];
    uint64_t files;   /* how many there have been */
    uint64_t settled; /* rights of earlier ones are gone */
    uint64_t serial;  /* of the last right that was given */
    bool is_short;    /* somebody found no class since the file was set */
};

/* ---- reading ------------------------------------------------------------------------------- */

static bool find_id(bool is_group, const char *name, struct knit_policy_word *word)
{
    unsigned id;

    if (!(is_group ? knit_access_find_group(name, &id) : knit_access_find_user(name, &id)))
        return false;
    (void)snprintf(word->id, sizeof(word->id), "%s:%u", is_group ? "gid" : "uid", id);
    return true;
}

static int refuse_file(const char *path, struct knit_sentence *why)
{
    return knit_sentence_set(
        why, KNIT_POLICY_E_REFUSED, "server.policy: cannot read %s: %s", path, strerror(errno));
}

/* A FIFO would be waited for. */
static int read_bytes(const char *path, char **ret_text, size_t *ret_len, struct knit_sentence *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *text = NULL;
    struct stat status;
    size_t len = 0;
    ssize_t got = 0;
    int r = 0;

    if (fd < 0)
        return refuse_file(path, why);
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        r = knit_sentence_set(
            why, KNIT_POLICY_E_REFUSED, "server.policy: %s is not a regular file", path);
    if (r == 0 && (text = malloc(KNIT_POLICY_FILE_BYTES_MAX + 1)) == NULL)
        r = -ENOMEM;
    while (r == 0 && len <= KNIT_POLICY_FILE_BYTES_MAX &&
           (got = read(fd, text + len, KNIT_POLICY_FILE_BYTES_MAX + 1 - len)) > 0)
        len += (size_t)got;
    if (r == 0 && got < 0)
        r = refuse_file(path, why);
    (void)close(fd);
    if (r != 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    *ret_len = len;
    return 0;
}

int knit_policy_load(struct knit_policy_file *file, const char *path, struct knit_sentence *why)
{
    char *text = NULL;
    size_t len = 0;
    int r = read_bytes(path, &text, &len, why);

    if (r != 0)
        return r;
    r = knit_policy_file_read(file, path, text, len, why);
    free(text);
    if (r != 0)
        return r;
    r = knit_policy_file_each_name(file, path, find_id, why);
    if (r == 0)
        r = knit_policy_file_check(file, path, why);
    if (r != 0)
        knit_policy_file_fini(file);
    return r;
}

/* ---- compiling ----------------------------------------------------------------------------- */

static void set_bit(uint64_t *row, size_t bit)
{
    row[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static void compile(
    const struct knit_policy *policy, const struct knit_policy_words *patterns, uint64_t *row)
{
    for (size_t i = 0; i < patterns->count; i++) {
        const char *pattern = patterns->items[i].text;
        const struct knit_registry_task *task;

        for (size_t at = 0; knit_policy_methods[at] != NULL; at++)
            if (knit_policy_matches(
                    pattern, knit_policy_methods[at], strlen(knit_policy_methods[at])))
                set_bit(row, knit_rights_own(policy->rights) + at);
        if (strchr(pattern, '*') == NULL) {
            task = knit_registry_find(policy->registry, pattern, strlen(pattern));
            if (task != NULL)
                set_bit(row, task->id);
            continue;
        }
        for (uint32_t id = 0; (task = knit_registry_at(policy->registry, id)) != NULL; id++)
            if (knit_policy_matches(pattern, task->name, task->name_len))
                set_bit(row, id);
    }
}

struct knit_policy *knit_policy_new(
    const struct knit_rights_view *rights, const struct knit_registry *registry)
{
    struct knit_policy *policy = calloc(1, sizeof(*policy));

    if (policy == NULL)
        return NULL;
    assert((knit_registry_count(registry) + 63) / 64 + 1 == rights->words);
    policy->rights = rights;
    policy->registry = registry;
    policy->maps_all = knit_access_maps_all();
    (void)pthread_mutex_init(&policy->mutex, NULL);
    policy->scratch = calloc(rights->words, sizeof(*policy->scratch));
    return policy->scratch != NULL ? policy : knit_policy_free(policy);
}

struct knit_policy *knit_policy_free(struct knit_policy *policy)
{
    if (policy == NULL)
        return NULL;
    for (uint32_t i = 0; i < KNIT_RIGHTS_CLASSES; i++)
        free(policy->classes[i].row);
    knit_policy_abandon(policy);
    free(policy->rows);
    free(policy->scratch);
    knit_policy_file_fini(&policy->file);
    (void)pthread_mutex_destroy(&policy->mutex);
    free(policy);
    return NULL;
}

int knit_policy_prepare(struct knit_policy *policy, struct knit_policy_file *file)
{
    const size_t words = policy->rights->words;
    uint64_t *rows = calloc(2 * file->count + 1, words * sizeof(*rows));

    knit_policy_abandon(policy);
    if (rows == NULL) {
        knit_policy_file_fini(file);
        return -ENOMEM;
    }
    for (size_t i = 0; i < file->count; i++) {
        compile(policy, &file->sections[i].allow, rows + 2 * i * words);
        compile(policy, &file->sections[i].deny, rows + (2 * i + 1) * words);
    }
    policy->next_file = *file;
    policy->next_rows = rows;
    *file = (struct knit_policy_file){0};
    return 0;
}

void knit_policy_commit(struct knit_policy *policy)
{
    struct knit_policy_file file = policy->file;
    uint64_t *rows = policy->rows;

    (void)pthread_mutex_lock(&policy->mutex);
    policy->file = policy->next_file;
    policy->rows = policy->next_rows;
    policy->files++;
    policy->is_short = false;
    (void)pthread_mutex_unlock(&policy->mutex);
    policy->next_file = file;
    policy->next_rows = rows;
    knit_policy_abandon(policy);
}

void knit_policy_abandon(struct knit_policy *policy)
{
    free(policy->next_rows);
    policy->next_rows = NULL;
    knit_policy_file_fini(&policy->next_file);
}

bool knit_policy_settle(struct knit_policy *policy)
{
    bool was_short;

    (void)pthread_mutex_lock(&policy->mutex);
    was_short = policy->is_short;
    policy->is_short = false;
    policy->settled = policy->files;
    (void)pthread_mutex_unlock(&policy->mutex);
    return was_short;
}

/* ---- classes ------------------------------------------------------------------------------- */

/* What the sections that apply say, into the scratch row. False: nothing is allowed. */
static bool add_up(struct knit_policy *policy, const struct knit_policy_names *names)
{
    const size_t words = policy->rights->words;
    uint64_t any = 0;

    memset(policy->scratch, 0, words * sizeof(*policy->scratch));
    for (int is_deny = 0; is_deny <= 1; is_deny++) {
        for (size_t i = 0; i < policy->file.count; i++) {
            const uint64_t *row = policy->rows + (2 * i + (size_t)is_deny) * words;

            if (!knit_policy_applies(&policy->file.sections[i], names))
                continue;
            for (size_t at = 0; at < words; at++)
                policy->scratch[at] =
                    is_deny ? policy->scratch[at] & ~row[at] : policy->scratch[at] | row[at];
        }
    }
    for (size_t at = 0; at < words; at++)
        any |= policy->scratch[at];
    return any != 0;
}

static bool has_same_limits(
    const struct knit_policy_limits *one, const struct knit_policy_limits *other)
{
    return one->weight == other->weight && one->calls_in_flight == other->calls_in_flight &&
           one->calls_per_second == other->calls_per_second &&
           one->bytes_per_second == other->bytes_per_second && one->over_limit == other->over_limit;
}

/* The class of the scratch row; KNIT_RIGHTS_NOTHING if there is no room for it. */
static uint32_t find_class(struct knit_policy *policy, const struct knit_policy_limits *limits)
{
    const size_t bytes = policy->rights->words * sizeof(uint64_t);
    uint32_t unused = KNIT_RIGHTS_NOTHING;
    struct class *class;

    for (uint32_t i = KNIT_RIGHTS_FREE; i < KNIT_RIGHTS_CLASSES; i++) {
        class = &policy->classes[i];
        if (class->row != NULL && memcmp(class->row, policy->scratch, bytes) == 0 &&
            has_same_limits(&class->limits, limits)) {
            class->used = policy->files;
            return i;
        }
        if (unused == KNIT_RIGHTS_NOTHING && (class->row == NULL || class->used < policy->settled))
            unused = i;
    }
    class = &policy->classes[unused];
    if (unused != KNIT_RIGHTS_NOTHING && class->row == NULL)
        class->row = malloc(bytes);
    if (unused == KNIT_RIGHTS_NOTHING || class->row == NULL) {
        policy->is_short = true;
        return KNIT_RIGHTS_NOTHING;
    }
    memcpy(class->row, policy->scratch, bytes);
    class->limits = *limits;
    class->used = policy->files;
    knit_rights_fill(policy->rights, unused, class->row);
    return unused;
}

uint64_t knit_policy_right(struct knit_policy *policy, const struct knit_policy_names *names)
{
    struct knit_policy_limits limits;
    uint32_t class = KNIT_RIGHTS_NOTHING;
    uint64_t right;

    (void)pthread_mutex_lock(&policy->mutex);
    limits = knit_policy_limits_of(&policy->file, names);
    if (add_up(policy, names))
        class = find_class(policy, &limits);
    right = knit_right(++policy->serial, class);
    (void)pthread_mutex_unlock(&policy->mutex);
    return right;
}

/* ---- principals ---------------------------------------------------------------------------- */

/* The names of a principal, its own first. */
struct named {
    struct knit_policy_names names;
    const char **items;
    char *text;
};

/* An id that this namespace does not map is that of nobody who is listed. */
static void add_id(
    const struct knit_policy *policy, struct named *named, const char *kind, unsigned id)
{
    char *place = named->text + named->names.count * ID_BYTES;

    if (id == KNIT_ACCESS_STRANGER && !policy->maps_all)
        (void)snprintf(place, ID_BYTES, "%s:?", kind);
    else
        (void)snprintf(place, ID_BYTES, "%s:%u", kind, id);
    named->items[named->names.count++] = place;
}

static bool name(
    const struct knit_policy *policy, const struct knit_principal *principal, struct named *named)
{
    const bool is_local = principal->kind == KNIT_PRINCIPAL_LOCAL;

    *named = (struct named){.items = calloc(principal->gid_count + 1, sizeof(*named->items)),
        .text = malloc((principal->gid_count + 1) * ID_BYTES)};
    if (named->items == NULL || named->text == NULL)
        return false;
    named->names.items = named->items;
    if (is_local)
        add_id(policy, named, "uid", (unsigned)principal->uid);
    else
        named->items[named->names.count++] = principal->name;
    for (size_t i = 0; i < principal->gid_count; i++)
        add_id(policy, named, "gid", (unsigned)principal->gids[i]);
    return true;
}

static void forget_names(struct named *named)
{
    free(named->items);
    free(named->text);
}

void knit_policy_rule(void *arg, struct knit_principal *principal)
{
    struct knit_policy *policy = arg;
    struct knit_policy_limits limits = {0};
    uint64_t right = KNIT_RIGHTS_NOTHING;
    struct named named;

    /* Without memory it may do nothing. */
    if (name(policy, principal, &named)) {
        right = knit_policy_right(policy, &named.names);
        (void)pthread_mutex_lock(&policy->mutex);
        limits = knit_policy_limits_of(&policy->file, &named.names);
        (void)pthread_mutex_unlock(&policy->mutex);
    }
    forget_names(&named);
    knit_quota_set(&principal->quota, &limits);
    knit_right_store(&principal->right, right);
}

/* ---- questions ----------------------------------------------------------------------------- */

bool knit_policy_covers(
    struct knit_policy *policy, const struct knit_principal *principal, struct knit_span of)
{
    bool is_covered = false;
    struct named named;

    if (name(policy, principal, &named)) {
        (void)pthread_mutex_lock(&policy->mutex);
        is_covered = knit_policy_decide(&policy->file, &named.names, (const char *)of.bytes, of.len)
                         .is_allowed;
        (void)pthread_mutex_unlock(&policy->mutex);
    }
    forget_names(&named);
    return is_covered;
}

bool knit_policy_decides(const char *method)
{
    for (uint32_t i = 0; knit_policy_methods[i] != NULL; i++)
        if (strcmp(knit_policy_methods[i], method) == 0)
            return true;
    return false;
}

bool knit_policy_method(
    const struct knit_rights_view *rights, const struct knit_right *right, const char *method)
{
    for (uint32_t i = 0; knit_policy_methods[i] != NULL; i++)
        if (strcmp(knit_policy_methods[i], method) == 0)
            return knit_right_allows(rights, right, knit_rights_own(rights) + i);
    return true;
}

static bool is_idle(const struct knit_policy *policy, const char *pattern)
{
    const struct knit_registry_task *task;

    if (pattern[0] == '$')
        return false;
    for (uint32_t id = 0; (task = knit_registry_at(policy->registry, id)) != NULL; id++)
        if (knit_policy_matches(pattern, task->name, task->name_len))
            return false;
    return true;
}

static bool is_unknown(struct knit_authentication *authentication, const char *member)
{
    return strncmp(member, "token:", 6) == 0 && strchr(member, '*') == NULL &&
           !knit_authentication_knows(authentication, member);
}

struct idle_log {
    const char *path;
    struct knit_log *log;
    struct knit_sentence *note; /* or NULL */
    unsigned left;
};

static void log_word(struct idle_log *idle, const char *msg, const struct knit_policy_word *word)
{
    idle->left--;
    if (idle->note != NULL)
        (void)knit_sentence_append(
            idle->note, 0, "%s:%u: %s: %s", idle->path, word->line, msg, word->text);
    knit_log(idle->log, KNIT_LOG_WARNING, msg, KNIT_LOG_TEXT("file", idle->path),
        KNIT_LOG_NUMBER("line", word->line), KNIT_LOG_TEXT("pattern", word->text));
}

void knit_policy_log_idle(struct knit_policy *policy, const char *path,
    struct knit_authentication *authentication, struct knit_log *log, struct knit_sentence *note)
{
    struct idle_log idle = {.path = path, .log = log, .note = note, .left = IDLE_LOGGED_MAX};

    for (size_t i = 0; i < policy->file.count; i++) {
        const struct knit_policy_section *section = &policy->file.sections[i];
        const struct knit_policy_words *lists[] = {&section->allow, &section->deny};
        const struct knit_policy_word *words =
            section->is_group ? section->members.items : &section->own;
        size_t count = section->is_group ? section->members.count : 1;

        for (size_t at = 0; at < count && idle.left > 0; at++)
            if (is_unknown(authentication, words[at].text))
                log_word(&idle, "the policy names a token that there is not", &words[at]);
        for (size_t list = 0; list < 2; list++)
            for (size_t at = 0; at < lists[list]->count && idle.left > 0; at++)
                if (is_idle(policy, lists[list]->items[at].text))
                    log_word(&idle, "the policy names a task that there is not",
                        &lists[list]->items[at]);
    }
}

static const char *kind_of(const struct knit_policy_section *section)
{
    return section->is_group ? "group" : "principal";
}

static bool explain(const struct knit_policy_file *file, const struct knit_policy_names *names,
    struct knit_span name, struct knit_sentence *ret_because)
{
    struct knit_policy_verdict verdict =
        knit_policy_decide(file, names, (const char *)name.bytes, name.len);
    const struct knit_policy_section *section = verdict.section;

    ret_because->text[0] = '\0';
    if (section != NULL) {
        (void)knit_sentence_set(ret_because, 0, "[%s %s] %s %s on line %u", kind_of(section),
            section->name, verdict.is_allowed ? "allows" : "denies", verdict.word->text,
            verdict.word->line);
        return verdict.is_allowed;
    }
    for (size_t i = 0; i < file->count; i++) {
        section = &file->sections[i];
        if (knit_policy_applies(section, names))
            (void)knit_sentence_append(ret_because, 0, "[%s %s] of line %u does not allow it",
                kind_of(section), section->name, section->line);
    }
    if (ret_because->text[0] == '\0')
        (void)knit_sentence_set(ret_because, 0, "no section speaks of this principal");
    return false;
}

bool knit_policy_explain(struct knit_policy *policy, const struct knit_policy_names *names,
    struct knit_span name, struct knit_sentence *ret_because)
{
    bool is_allowed;

    (void)pthread_mutex_lock(&policy->mutex);
    is_allowed = explain(&policy->file, names, name, ret_because);
    (void)pthread_mutex_unlock(&policy->mutex);
    return is_allowed;
}
