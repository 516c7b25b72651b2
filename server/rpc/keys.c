/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table by the digest of principal and key. What a call is, its task and arguments, is kept
 * as a digest too: no peer can aim at either, for both have random keys of this daemon's.
 *
 * All outcomes are kept equally long, so the order in which they came is that in which they go.
 */
#include "server/rpc/keys.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/base/siphash.h"

enum {
    BUCKETS = 16384,
    PRINCIPAL_BUCKETS = 256,
    KEPT_NS_PER_MS = 1000000,
};

#define KEPT_NS (KNIT_KEYS_S * UINT64_C(1000000000))

/* Who has keys in the window. */
struct principal {
    LIST_ENTRY(principal) in_bucket;
    struct knit_digest digest;
    uint32_t entries;
    size_t bytes;
    TAILQ_HEAD(, knit_key) done; /* the oldest first */
};

TAILQ_HEAD(waiters, knit_key_waiter);

struct knit_key {
    LIST_ENTRY(knit_key) in_bucket;
    TAILQ_ENTRY(knit_key) in_done;
    TAILQ_ENTRY(knit_key) in_done_of_one;
    struct principal *principal;
    struct knit_digest digest;  /* of principal and key */
    struct knit_digest content; /* of all else */
    struct waiters waiters;     /* RUNNING */
    uint64_t until_ns;          /* DONE; 0: it runs */
    struct knit_keys_outcome *outcome;
};

struct loop {
    struct waiters done;
    void (*wake)(void *arg); /* NULL: it is gone */
    void *arg;
};

struct knit_keys {
    pthread_mutex_t mutex;
    uint64_t secret[2];
    uint32_t entries;
    size_t bytes;
    uint64_t now_ns;             /* the latest that a loop has said */
    TAILQ_HEAD(, knit_key) done; /* the oldest first */
    struct loop loops[KNIT_KEYS_LOOPS_MAX];
    LIST_HEAD(, principal) principals[PRINCIPAL_BUCKETS];
    LIST_HEAD(, knit_key) buckets[BUCKETS];
};

/* ---- life ------------------------------------------------------------------------------------ */

struct knit_keys *knit_keys_new(void)
{
    struct knit_keys *keys = calloc(1, sizeof(*keys));

    if (keys == NULL)
        return NULL;
    if (getrandom(keys->secret, sizeof(keys->secret), 0) != (ssize_t)sizeof(keys->secret) ||
        pthread_mutex_init(&keys->mutex, NULL) != 0) {
        free(keys);
        return NULL;
    }
    TAILQ_INIT(&keys->done);
    for (uint32_t i = 0; i < KNIT_KEYS_LOOPS_MAX; i++)
        TAILQ_INIT(&keys->loops[i].done);
    return keys;
}

void knit_keys_enter(struct knit_keys *keys, uint32_t loop, void (*wake)(void *arg), void *arg)
{
    (void)pthread_mutex_lock(&keys->mutex);
    keys->loops[loop].wake = wake;
    keys->loops[loop].arg = arg;
    (void)pthread_mutex_unlock(&keys->mutex);
}

void knit_keys_leave(struct knit_keys *keys, uint32_t loop)
{
    knit_keys_enter(keys, loop, NULL, NULL);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

struct knit_keys_outcome *knit_keys_outcome_new(bool is_error, struct knit_span bytes)
{
    struct knit_keys_outcome *outcome = malloc(sizeof(*outcome) + bytes.len);

    if (outcome == NULL)
        return NULL;
    outcome->references = 1;
    outcome->is_error = is_error;
    outcome->len = bytes.len;
    if (bytes.len > 0)
        memcpy(outcome->bytes, bytes.bytes, bytes.len);
    return outcome;
}

static void release(struct knit_keys_outcome *outcome)
{
    if (outcome != NULL && --outcome->references == 0)
        free(outcome);
}

void knit_keys_release(struct knit_keys *keys, struct knit_keys_outcome *outcome)
{
    (void)pthread_mutex_lock(&keys->mutex);
    release(outcome);
    (void)pthread_mutex_unlock(&keys->mutex);
}

/* ---- entries --------------------------------------------------------------------------------- */

static struct principal *find_principal(
    struct knit_keys *keys, const struct knit_digest *digest, bool may_make)
{
    const uint64_t bucket = digest->word[0] % PRINCIPAL_BUCKETS;
    struct principal *principal;

    LIST_FOREACH(principal, &keys->principals[bucket], in_bucket)
    if (memcmp(&principal->digest, digest, sizeof(*digest)) == 0)
        return principal;
    principal = may_make ? calloc(1, sizeof(*principal)) : NULL;
    if (principal == NULL)
        return NULL;
    principal->digest = *digest;
    TAILQ_INIT(&principal->done);
    LIST_INSERT_HEAD(&keys->principals[bucket], principal, in_bucket);
    return principal;
}

static void free_principal_if_unused(struct principal *principal)
{
    if (principal->entries > 0)
        return;
    LIST_REMOVE(principal, in_bucket);
    free(principal);
}

/* One that nobody waits for. */
static void free_key(struct knit_keys *keys, struct knit_key *key)
{
    struct principal *principal = key->principal;

    if (key->until_ns != 0) {
        TAILQ_REMOVE(&keys->done, key, in_done);
        TAILQ_REMOVE(&principal->done, key, in_done_of_one);
    }
    if (key->outcome != NULL) {
        keys->bytes -= key->outcome->len;
        principal->bytes -= key->outcome->len;
        release(key->outcome);
    }
    LIST_REMOVE(key, in_bucket);
    keys->entries--;
    principal->entries--;
    free_principal_if_unused(principal);
    free(key);
}

/* Loops look at the clock once a turn, and one that is behind must not put a key that is to go
 * earlier behind others. */
static void go_on(struct knit_keys *keys, uint64_t now_ns)
{
    if (now_ns > keys->now_ns)
        keys->now_ns = now_ns;
}

static void expire(struct knit_keys *keys, uint64_t now_ns)
{
    struct knit_key *key;

    go_on(keys, now_ns);
    while ((key = TAILQ_FIRST(&keys->done)) != NULL && key->until_ns <= keys->now_ns)
        free_key(keys, key);
}

uint32_t knit_keys_expire(struct knit_keys *keys, uint64_t now_ns)
{
    uint32_t left;

    (void)pthread_mutex_lock(&keys->mutex);
    expire(keys, now_ns);
    left = keys->entries;
    (void)pthread_mutex_unlock(&keys->mutex);
    return left;
}

struct knit_keys *knit_keys_free(struct knit_keys *keys)
{
    struct knit_key *key, *next;

    if (keys == NULL)
        return NULL;
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (key = LIST_FIRST(&keys->buckets[i]); key != NULL; key = next) {
            next = LIST_NEXT(key, in_bucket);
            free_key(keys, key);
        }
    (void)pthread_mutex_destroy(&keys->mutex);
    free(keys);
    return NULL;
}

/* ---- requests -------------------------------------------------------------------------------- */

static void add_part(struct knit_siphash *hash, const void *bytes, size_t len)
{
    const uint64_t count = len;

    knit_siphash_add(hash, &count, sizeof(count));
    knit_siphash_add(hash, bytes, len);
}

static struct knit_digest digest_of(
    const struct knit_keys *keys, struct knit_span one, struct knit_span other, uint8_t more)
{
    struct knit_siphash hash;

    knit_siphash_begin(&hash, keys->secret);
    add_part(&hash, one.bytes, one.len);
    add_part(&hash, other.bytes, other.len);
    knit_siphash_add(&hash, &more, sizeof(more));
    return knit_siphash_end(&hash);
}

static struct knit_key *find(struct knit_keys *keys, const struct knit_digest *digest)
{
    struct knit_key *key;

    LIST_FOREACH(key, &keys->buckets[digest->word[0] % BUCKETS], in_bucket)
    if (memcmp(&key->digest, digest, sizeof(*digest)) == 0)
        return key;
    return NULL;
}

static bool is_full(uint32_t entries, uint32_t most, size_t bytes, size_t most_bytes)
{
    return entries >= most || bytes > most_bytes - KNIT_KEYS_ROOM;
}

/* What is over has been let go. */
static uint64_t until_over_ms(const struct knit_keys *keys, const struct knit_key *oldest)
{
    return oldest != NULL ? (oldest->until_ns - keys->now_ns) / KEPT_NS_PER_MS + 1
                          : (uint64_t)KNIT_KEYS_S * 1000;
}

/* Whether there is room for one more. */
static bool has_room(
    const struct knit_keys *keys, const struct principal *principal, uint64_t *ret_retry_ms)
{
    if (is_full(keys->entries, KNIT_KEYS_MAX, keys->bytes, KNIT_KEYS_BYTES)) {
        *ret_retry_ms = until_over_ms(keys, TAILQ_FIRST(&keys->done));
        return false;
    }
    if (is_full(
            principal->entries, KNIT_KEYS_OF_ONE_MAX, principal->bytes, KNIT_KEYS_OF_ONE_BYTES)) {
        *ret_retry_ms = until_over_ms(keys, TAILQ_FIRST(&principal->done));
        return false;
    }
    return true;
}

static void wait_for(struct knit_key *key, struct knit_key_waiter *waiter)
{
    waiter->key = key;
    waiter->is_done = false;
    waiter->outcome = NULL;
    TAILQ_INSERT_TAIL(&key->waiters, waiter, entry);
}

/* A call of a key that is not there. */
static enum knit_keys_verdict add(struct knit_keys *keys, const struct knit_key *made,
    const struct knit_digest *by, struct knit_key_waiter *waiter, struct knit_keys_answer *answer)
{
    struct principal *principal = find_principal(keys, by, true);
    struct knit_key *key;

    if (principal == NULL)
        return KNIT_KEYS_NO_MEMORY;
    if (!has_room(keys, principal, &answer->retry_ms)) {
        free_principal_if_unused(principal);
        return KNIT_KEYS_FULL;
    }
    key = malloc(sizeof(*key));
    if (key == NULL) {
        free_principal_if_unused(principal);
        return KNIT_KEYS_NO_MEMORY;
    }
    *key = *made;
    key->principal = principal;
    TAILQ_INIT(&key->waiters);
    LIST_INSERT_HEAD(&keys->buckets[key->digest.word[0] % BUCKETS], key, in_bucket);
    principal->entries++;
    keys->entries++;
    wait_for(key, waiter);
    answer->key = key;
    return KNIT_KEYS_NEW;
}

/* A call of a key that is there. */
static enum knit_keys_verdict repeat(struct knit_key *key, const struct knit_digest *content,
    struct knit_key_waiter *waiter, struct knit_keys_answer *answer)
{
    if (memcmp(&key->content, content, sizeof(*content)) != 0)
        return KNIT_KEYS_OTHER;
    if (key->until_ns == 0) {
        wait_for(key, waiter);
        return KNIT_KEYS_RUNNING;
    }
    if (key->outcome == NULL)
        return KNIT_KEYS_LOST;
    key->outcome->references++;
    answer->outcome = key->outcome;
    return KNIT_KEYS_DONE;
}

enum knit_keys_verdict knit_keys_begin(struct knit_keys *keys, const struct knit_keys_call *call,
    struct knit_key_waiter *waiter, uint64_t now_ns, struct knit_keys_answer *ret_answer)
{
    const struct knit_span principal = knit_span_text(call->principal), none = knit_span("", 0);
    const struct knit_digest by = digest_of(keys, principal, none, 0);
    const struct knit_key made = {.digest = digest_of(keys, principal, call->key, 1),
        .content = digest_of(keys, call->task, call->params, call->output)};
    enum knit_keys_verdict verdict;
    struct knit_key *key;

    *ret_answer = (struct knit_keys_answer){0};
    (void)pthread_mutex_lock(&keys->mutex);
    expire(keys, now_ns);
    key = find(keys, &made.digest);
    if (key != NULL)
        verdict = repeat(key, &made.content, waiter, ret_answer);
    else
        verdict =
            call->may_not_begin ? KNIT_KEYS_ABSENT : add(keys, &made, &by, waiter, ret_answer);
    (void)pthread_mutex_unlock(&keys->mutex);
    return verdict;
}

/* ---- outcomes that come ---------------------------------------------------------------------- */

/* Those that wait have it, each in its loop. */
static void give(
    struct knit_keys *keys, struct knit_key *key, const struct knit_keys_ending *ending)
{
    struct knit_keys_outcome *outcome = ending->outcome;
    uint64_t woken = UINT64_C(1) << ending->loop;
    struct knit_key_waiter *waiter;

    while ((waiter = TAILQ_FIRST(&key->waiters)) != NULL) {
        struct loop *loop = &keys->loops[waiter->loop];

        TAILQ_REMOVE(&key->waiters, waiter, entry);
        waiter->is_done = true;
        waiter->outcome = outcome;
        if (outcome != NULL)
            outcome->references++;
        TAILQ_INSERT_TAIL(&loop->done, waiter, entry);
        if (loop->wake != NULL && (woken >> waiter->loop & 1) == 0)
            loop->wake(loop->arg);
        woken |= UINT64_C(1) << waiter->loop;
    }
}

static bool fits(const struct knit_keys *keys, const struct principal *principal, size_t len)
{
    return len <= KNIT_KEYS_BYTES - keys->bytes && len <= KNIT_KEYS_OF_ONE_BYTES - principal->bytes;
}

static void keep(struct knit_keys *keys, struct knit_key *key, struct knit_keys_outcome *outcome)
{
    struct principal *principal = key->principal;

    key->until_ns = keys->now_ns + KEPT_NS;
    TAILQ_INSERT_TAIL(&keys->done, key, in_done);
    TAILQ_INSERT_TAIL(&principal->done, key, in_done_of_one);
    if (outcome == NULL || !fits(keys, principal, outcome->len))
        return;
    outcome->references++;
    key->outcome = outcome;
    keys->bytes += outcome->len;
    principal->bytes += outcome->len;
}

void knit_keys_end(
    struct knit_keys *keys, struct knit_key *key, const struct knit_keys_ending *ending)
{
    (void)pthread_mutex_lock(&keys->mutex);
    go_on(keys, ending->now_ns);
    give(keys, key, ending);
    if (ending->is_kept)
        keep(keys, key, ending->outcome);
    else
        free_key(keys, key);
    release(ending->outcome);
    (void)pthread_mutex_unlock(&keys->mutex);
}

bool knit_keys_is_awaited(struct knit_keys *keys, const struct knit_key *key)
{
    bool is_awaited;

    (void)pthread_mutex_lock(&keys->mutex);
    is_awaited = !TAILQ_EMPTY(&key->waiters);
    (void)pthread_mutex_unlock(&keys->mutex);
    return is_awaited;
}

struct knit_key_waiter *knit_keys_take(struct knit_keys *keys, uint32_t loop)
{
    struct knit_key_waiter *waiter;

    (void)pthread_mutex_lock(&keys->mutex);
    waiter = TAILQ_FIRST(&keys->loops[loop].done);
    if (waiter != NULL) {
        TAILQ_REMOVE(&keys->loops[loop].done, waiter, entry);
        waiter->key = NULL;
    }
    (void)pthread_mutex_unlock(&keys->mutex);
    return waiter;
}

void knit_keys_drop(struct knit_keys *keys, struct knit_key_waiter *waiter)
{
    (void)pthread_mutex_lock(&keys->mutex);
    if (waiter->key != NULL && waiter->is_done) {
        TAILQ_REMOVE(&keys->loops[waiter->loop].done, waiter, entry);
        release(waiter->outcome);
    } else if (waiter->key != NULL) {
        TAILQ_REMOVE(&waiter->key->waiters, waiter, entry);
    }
    waiter->key = NULL;
    (void)pthread_mutex_unlock(&keys->mutex);
}

struct knit_keys_stats knit_keys_stats(struct knit_keys *keys)
{
    struct knit_keys_stats stats;

    (void)pthread_mutex_lock(&keys->mutex);
    stats = (struct knit_keys_stats){.entries = keys->entries, .bytes = keys->bytes};
    (void)pthread_mutex_unlock(&keys->mutex);
    return stats;
}
