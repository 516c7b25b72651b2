/* SPDX-License-Identifier: Apache-2.0 */
/* A call in the table is
 *
 *     waiting    its outcome has not been given
 *     over       it has: by a thread that had it open, or by the watching thread
 *     gone       over without one: its session has ended
 *
 * and beside that open, or not; and its task has returned, or not yet. An outcome is handed to the
 * lane when the call is over and its task has returned, by whoever sees that first. The place is
 * free again when the lane has done with it and nobody has it open.
 */
#include "fastpath/worker/deferred.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fastpath/lane/bell.h"
#include "fastpath/worker/outcome.h"
#include "proto/limits.h"

#define INDEX_BITS    16
#define ENTRIES_MAX   (1u << INDEX_BITS)
#define LOOK_MAX_NS   1000000000u
#define LOOK_MIN_NS   1000000u
#define LOOKS_A_GRACE 10u

struct knit_deferred_call {
    struct knit_call call; /* first: what is open is known by it */
    struct knit_job job;
    struct knit_call_place found;
    struct knit_finished finished;
    struct knit_lane_session in;  /* while has_session */
    struct knit_deferreds *owner; /* NULL: the place is free */
    struct knit_deferreds *last;  /* whose the place was, or is */
    uint64_t use;                 /* of the place */
    uint32_t index;
    bool is_open, is_over, is_done; /* the last: the lane has nothing to do with it */
    bool has_returned, has_session;
    uint64_t hard_ns;     /* 0 = none */
    uint64_t given_up_ns; /* since then nobody waits; 0 = somebody does */
    unsigned char *argument;
    char *output;
    size_t output_len;
    bool is_output_cut;
    _Alignas(8) unsigned char error[KNIT_INLINE_MAX]; /* of the watching thread */
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct knit_deferred_call **entries;
    uint32_t count;
    uint32_t searched; /* places are taken in turn, so that an old token finds nothing for long */
    uint32_t returned; /* tasks whose calls are watched from then on, counted */
    bool has_watcher;
} all = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Whose calls are those whose worker has ended. */
static struct knit_deferreds orphans;

static void install(void);

static void lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, install);
    (void)pthread_mutex_lock(&all.mutex);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&all.mutex);
}

/* A token was used in vain: under the mutex. `entry` is its place, or NULL. */
static void count_late(const struct knit_deferred_call *entry)
{
    _Atomic uint64_t *late = entry != NULL && entry->last != NULL ? entry->last->late : NULL;

    if (late != NULL)
        /* relaxed: a count. */
        (void)atomic_fetch_add_explicit(late, 1, memory_order_relaxed);
}

/* ---- places --------------------------------------------------------------------------------- */

static struct knit_deferred *token_of(const struct knit_deferred_call *entry)
{
    return (struct knit_deferred *)(uintptr_t)(entry->use << INDEX_BITS | entry->index);
}

/* NULL: there never was one. */
static struct knit_deferred_call *place_of(const struct knit_deferred *token)
{
    const uint32_t index = (uintptr_t)token & (ENTRIES_MAX - 1);

    return index < all.count ? all.entries[index] : NULL;
}

/* NULL: that call is over, or never was. */
static struct knit_deferred_call *find(const struct knit_deferred *token)
{
    const uint64_t number = (uintptr_t)token;
    struct knit_deferred_call *entry = place_of(token);

    return entry != NULL && entry->owner != NULL && entry->use == number >> INDEX_BITS ? entry
                                                                                       : NULL;
}

static struct knit_deferred_call *new_place(void)
{
    struct knit_deferred_call **entries, *entry;

    if (all.count == ENTRIES_MAX)
        return NULL;
    entries = realloc(all.entries, (all.count + 1) * sizeof(*entries));
    if (entries == NULL)
        return NULL;
    all.entries = entries;
    entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    entry->index = all.count;
    all.entries[all.count++] = entry;
    return entry;
}

static struct knit_deferred_call *take_place(void)
{
    for (uint32_t i = 0; i < all.count; i++) {
        struct knit_deferred_call *entry = all.entries[++all.searched % all.count];

        if (entry->owner == NULL)
            return entry;
    }
    return new_place();
}

/* The next use of the place has another token. */
static void leave_place(struct knit_deferred_call *entry)
{
    entry->owner->count--;
    entry->owner = NULL;
    entry->use++;
    free(entry->argument);
    free(entry->output);
    entry->argument = NULL;
    entry->output = NULL;
    knit_buffer_fini(&entry->call.results);
    knit_buffer_fini(&entry->call.errors);
    knit_call_free_copies(&entry->call);
}

static void leave_if_done(struct knit_deferred_call *entry)
{
    if (entry->owner != NULL && entry->is_over && entry->is_done && entry->has_returned &&
        !entry->is_open)
        leave_place(entry);
}

/* Its worker has ended. What is open is left when it is closed. */
static void orphan(struct knit_deferred_call *entry)
{
    entry->is_over = entry->is_done = entry->has_returned = true;
    entry->has_session = false;
    entry->owner->count--;
    entry->owner = &orphans;
    orphans.count++;
}

/* ---- fork() --------------------------------------------------------------------------------- */

static void before_fork(void)
{
    (void)pthread_mutex_lock(&all.mutex);
}

/* A child has no worker and no watching thread, but it may open a pool of its own. A call that some
 * thread was busy with, without the mutex, keeps its place for good. */
static void in_child(void)
{
    for (uint32_t i = 0; i < all.count; i++) {
        struct knit_deferred_call *entry = all.entries[i];
        const bool is_quiet = !entry->is_over && entry->has_returned;

        entry->last = &orphans;
        if (entry->owner == NULL)
            continue;
        orphan(entry);
        if (is_quiet)
            leave_if_done(entry);
    }
    all.has_watcher = false;
    /* Threads of the parent may have waited for it. */
    all.changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    unlock();
}

/* Without memory for the handlers, a child may find the mutex taken. */
static void install(void)
{
    (void)pthread_atfork(before_fork, unlock, in_child);
}

/* ---- handing over --------------------------------------------------------------------------- */

/* Under the mutex: from now on its lane has to stay. */
static void begin_handing(struct knit_deferred_call *entry)
{
    entry->owner->handing++;
}

static void end_handing(struct knit_deferreds *owner)
{
    lock();
    if (--owner->handing == 0)
        (void)pthread_cond_broadcast(&all.changed);
    unlock();
}

/* The call is over and its task has returned: nobody else touches its outcome. */
static void hand_over(struct knit_deferred_call *entry)
{
    const struct knit_job *job = &entry->job;
    struct knit_deferreds *owner = entry->owner;

    if (job->wants_output)
        knit_outcome_add_output(&entry->call,
            knit_span(entry->output != NULL ? entry->output : "", entry->output_len),
            entry->is_output_cut);
    entry->finished = (struct knit_finished){.session = job->session,
        .slot = knit_job_slot(job),
        .gen = knit_job_gen(job),
        .status = job->status,
        .bytes = job->result,
        .len = job->result_len};
    knit_lane_finish(owner->lane, &entry->finished);
    end_handing(owner);
}

void knit_deferred_on_finished(void *arg, struct knit_finished *finished)
{
    struct knit_deferred_call *entry =
        (struct knit_deferred_call *)(void *)((char *)finished -
                                              offsetof(struct knit_deferred_call, finished));

    (void)arg;
    lock();
    entry->is_done = true;
    leave_if_done(entry);
    unlock();
}

/* ---- watching ------------------------------------------------------------------------------- */

static bool is_cancelled(const struct knit_deferred_call *entry)
{
    const uint32_t slot = knit_job_slot(&entry->job);
    const uint64_t gen = knit_job_gen(&entry->job);

    return !entry->has_session || knit_lane_is_cancelled_at(&entry->in, slot, gen) ||
           knit_lane_is_stopped_at(&entry->in, slot, gen);
}

static bool is_late(const struct knit_deferred_call *entry, uint64_t now_ns)
{
    return entry->job.deadline_ns != 0 && now_ns >= entry->job.deadline_ns;
}

static bool is_aborted(const struct knit_deferred_call *entry)
{
    return entry->is_over || is_cancelled(entry) || !knit_lane_is_served_at(&entry->in) ||
           is_late(entry, knit_clock_ns());
}

/* The code with which the call ends now; KNIT_OK: it goes on. */
static int judge(struct knit_deferred_call *entry, uint64_t now_ns)
{
    const uint64_t grace_ns = (uint64_t)entry->owner->abort_grace_ms * 1000000u;

    if (entry->hard_ns != 0 && now_ns >= entry->hard_ns)
        return KNIT_HARD_TIMEOUT;
    if (grace_ns == 0 || !is_aborted(entry)) {
        entry->given_up_ns = 0;
        return KNIT_OK;
    }
    if (entry->given_up_ns == 0)
        entry->given_up_ns = now_ns;
    if (now_ns - entry->given_up_ns < grace_ns)
        return KNIT_OK;
    return is_late(entry, now_ns) ? KNIT_TIMEOUT : KNIT_CANCELLED;
}

/* When to look at it again, at the latest. */
static uint64_t next_look(const struct knit_deferred_call *entry, uint64_t now_ns)
{
    uint64_t grace_ns = (uint64_t)entry->owner->abort_grace_ms * 1000000u, at_ns = UINT64_MAX;
    uint64_t period_ns = grace_ns / LOOKS_A_GRACE;

    if (period_ns > LOOK_MAX_NS)
        period_ns = LOOK_MAX_NS;
    if (period_ns < LOOK_MIN_NS)
        period_ns = LOOK_MIN_NS;
    if (grace_ns != 0)
        at_ns = now_ns + period_ns;
    return entry->hard_ns != 0 && entry->hard_ns < at_ns ? entry->hard_ns : at_ns;
}

/* The error of a call that is ended here, in bytes of its own: a thread may have its call open. */
static void make_error(struct knit_deferred_call *entry, int code)
{
    const char *name = entry->call.hot->task->name;
    struct knit_failure failure;
    struct knit_buffer buffer;
    char text[64];

    (void)snprintf(text, sizeof(text), "%.24s %s", name,
        code == KNIT_HARD_TIMEOUT ? "ran past its hard timeout" : "did not stop");
    failure = knit_failure((uint32_t)code, text);
    failure.started = KNIT_STARTED_YES;
    if (code == KNIT_HARD_TIMEOUT)
        failure.limit = entry->call.hot->hard_ns / 1000000u;
    knit_buffer_init_fixed(&buffer, entry->error, sizeof(entry->error));
    if (knit_failure_put(&buffer, &failure, KNIT_FAILURE_COMPACT) != 0) {
        failure.message.len = 0;
        knit_buffer_init_fixed(&buffer, entry->error, sizeof(entry->error));
        (void)knit_failure_put(&buffer, &failure, KNIT_FAILURE_COMPACT);
    }
    entry->finished = (struct knit_finished){.session = entry->job.session,
        .slot = knit_job_slot(&entry->job),
        .gen = knit_job_gen(&entry->job),
        .status = KNIT_STATUS_ERROR,
        .bytes = entry->error,
        .len = buffer.len};
}

/* Under the mutex, which is given up meanwhile. */
static void expire(struct knit_deferred_call *entry, int code)
{
    struct knit_deferreds *owner = entry->owner;
    const bool has_caller = entry->has_session;

    make_error(entry, code);
    begin_handing(entry);
    entry->is_over = true;
    entry->is_done = !has_caller;
    unlock();
    if (has_caller)
        knit_lane_finish(owner->lane, &entry->finished);
    knit_lane_retire(owner->lane);
    end_handing(owner);
    lock();
    leave_if_done(entry);
}

/* Looks at all; returns when to do so again. */
static uint64_t look_at_all(void)
{
    uint64_t at_ns = UINT64_MAX;

    for (uint32_t i = 0; i < all.count; i++) {
        struct knit_deferred_call *entry = all.entries[i];
        const uint64_t now_ns = knit_clock_ns();
        uint64_t next_ns;
        int code;

        /* While the task runs, the host looks after its time. */
        if (entry->owner == NULL || entry->is_over || !entry->has_returned)
            continue;
        code = judge(entry, now_ns);
        if (code != KNIT_OK) {
            expire(entry, code);
            continue;
        }
        next_ns = next_look(entry, now_ns);
        at_ns = next_ns < at_ns ? next_ns : at_ns;
    }
    return at_ns;
}

static void *watch(void *unused)
{
    (void)unused;
    lock();
    for (;;) {
        const uint32_t returned = all.returned;
        const uint64_t at_ns = look_at_all();
        const struct timespec at = {
            .tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)};

        /* While the mutex was given up for a call, one before it may have become one to watch. */
        if (all.returned != returned)
            continue;
        if (at_ns == UINT64_MAX)
            (void)pthread_cond_wait(&all.changed, &all.mutex);
        else
            (void)pthread_cond_timedwait(&all.changed, &all.mutex, &at);
    }
    return NULL;
}

/* Once. False: the system has no thread for it. */
static bool start_watching(void)
{
    pthread_condattr_t attributes;
    pthread_t thread;
    sigset_t full, before;

    if (all.has_watcher)
        return true;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&all.changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)sigfillset(&full);
    (void)pthread_sigmask(SIG_SETMASK, &full, &before);
    all.has_watcher = pthread_create(&thread, NULL, watch, NULL) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (all.has_watcher)
        (void)pthread_detach(thread);
    return all.has_watcher;
}

/* ---- deferring ------------------------------------------------------------------------------ */

/* Of the call that runs. False: out of memory. */
static bool fill(struct knit_deferred_call *entry, const struct knit_call *call)
{
    const struct knit_job *job = call->job;
    const size_t len = knit_job_len(job);

    entry->argument = malloc(len + KNIT_HEAD_SPARE);
    if (entry->argument == NULL)
        return false;
    memcpy(entry->argument, job->payload, len);
    memset(entry->argument + len, 0, KNIT_HEAD_SPARE);
    entry->job = *job;
    entry->job.payload = entry->argument;
    entry->job.result = NULL;
    entry->found = (struct knit_call_place){0};
    entry->in = *knit_lane_session_of(call->lane);
    entry->call = (struct knit_call){.job = &entry->job,
        .hot = call->hot,
        .args = call->args,
        .found = &entry->found,
        .deferred = entry};
    knit_buffer_init(&entry->call.results, job->result_max);
    knit_buffer_init(&entry->call.errors, job->result_max + 2 * KNIT_ERROR_MESSAGE_BYTES_MAX);
    entry->is_open = entry->is_over = entry->is_done = entry->has_returned = false;
    entry->has_session = true;
    entry->given_up_ns = 0;
    entry->hard_ns = knit_lane_hard_ns(call->lane);
    return true;
}

struct knit_deferred *knit_deferred_new(struct knit_call *call)
{
    struct knit_deferreds *deferreds = call->deferreds;
    struct knit_deferred_call *entry = NULL;
    struct knit_deferred *token = NULL;

    if (knit_call_is_settled(call) || call->lane == NULL || deferreds == NULL)
        return NULL;
    lock();
    if (deferreds->count < deferreds->max && start_watching())
        entry = take_place();
    if (entry != NULL && fill(entry, call)) {
        entry->owner = entry->last = deferreds;
        entry->use += entry->use == 0;
        deferreds->count++;
        deferreds->newest = entry;
        token = token_of(entry);
    }
    unlock();
    if (token == NULL)
        return NULL;
    (void)knit_outcome_settle(call, call->job->body, KNIT_JOB_DEFERRED);
    return token;
}

void knit_deferred_keep_output(struct knit_deferreds *deferreds, struct knit_span text, bool is_cut)
{
    struct knit_deferred_call *entry = deferreds->newest;

    /* Without memory for it, its caller is told that all of it was cut. */
    entry->output = malloc(text.len + 1);
    entry->output_len = entry->output != NULL ? text.len : 0;
    entry->is_output_cut = is_cut || entry->output == NULL;
    if (entry->output == NULL)
        return;
    memcpy(entry->output, text.bytes, text.len);
}

void knit_deferred_let_go(struct knit_deferreds *deferreds)
{
    struct knit_deferred_call *entry = deferreds->newest;
    bool is_over;

    deferreds->newest = NULL;
    lock();
    entry->has_returned = true;
    all.returned++;
    is_over = entry->is_over && !entry->is_done;
    if (is_over)
        begin_handing(entry);
    leave_if_done(entry);
    (void)pthread_cond_broadcast(&all.changed);
    unlock();
    if (is_over)
        hand_over(entry);
}

/* ---- completing ----------------------------------------------------------------------------- */

struct knit_call *knit_deferred_open(struct knit_deferred *token)
{
    struct knit_deferred_call *entry;

    lock();
    entry = find(token);
    if (entry != NULL && !entry->has_session && !entry->is_over && !entry->is_open) {
        /* Its caller has gone: it ends here. */
        entry->is_over = true;
        entry->is_done = true;
        leave_if_done(entry);
        entry = NULL;
    }
    if (entry != NULL && (entry->is_over || entry->is_open))
        entry = NULL;
    if (entry != NULL)
        entry->is_open = true;
    else
        count_late(place_of(token));
    unlock();
    return entry != NULL ? &entry->call : NULL;
}

/* As when a task returns, but that a call without an outcome goes on. */
static bool settle_placed(struct knit_call *call)
{
    if (!knit_call_is_settled(call) && call->is_placed)
        (void)knit_outcome_settle_result(call, call->whole.bytes, call->whole.len, 0);
    else if (!knit_call_is_settled(call) && call->refused_bytes != 0)
        (void)knit_outcome_fail_too_large(call, call->refused_bytes);
    return knit_call_is_settled(call);
}

int knit_deferred_close(struct knit_call *call)
{
    struct knit_deferred_call *entry = call->deferred;
    const bool is_settled = settle_placed(call);
    const int code = is_settled ? knit_call_code(call) : KNIT_OK;
    bool is_due = false;

    lock();
    entry->is_open = false;
    if (entry->is_over || (is_settled && !entry->has_session)) {
        if (is_settled)
            count_late(entry);
        entry->is_done |= !entry->is_over;
        entry->is_over = true;
        leave_if_done(entry);
    } else if (is_settled) {
        entry->is_over = true;
        is_due = entry->has_returned;
        if (is_due)
            begin_handing(entry);
    }
    unlock();
    if (is_due)
        hand_over(entry);
    return code;
}

bool knit_deferred_aborted(const struct knit_deferred *token)
{
    const struct knit_deferred_call *entry;
    bool aborted;

    lock();
    entry = find(token);
    aborted = entry == NULL || is_aborted(entry);
    unlock();
    return aborted;
}

bool knit_deferred_call_aborted(const struct knit_call *call)
{
    bool aborted;

    lock();
    aborted = is_aborted(call->deferred);
    unlock();
    return aborted;
}

static size_t reason_of(const struct knit_deferred_call *entry, char *ret_text)
{
    return entry == NULL || !entry->has_session
               ? 0
               : knit_lane_reason_at(
                     &entry->in, knit_job_slot(&entry->job), knit_job_gen(&entry->job), ret_text);
}

size_t knit_deferred_reason(const struct knit_deferred *token, char *ret_text)
{
    size_t len;

    lock();
    len = reason_of(find(token), ret_text);
    unlock();
    return len;
}

size_t knit_deferred_call_reason(const struct knit_call *call, char *ret_text)
{
    size_t len;

    lock();
    len = reason_of(call->deferred, ret_text);
    unlock();
    return len;
}

bool knit_deferred_call_cancelled(const struct knit_call *call)
{
    bool cancelled;

    lock();
    cancelled = is_cancelled(call->deferred);
    unlock();
    return cancelled;
}

void knit_deferred_emit(const struct knit_call *call, struct knit_span value)
{
    const struct knit_deferred_call *entry = call->deferred;

    lock();
    if (entry->has_session && !entry->is_over)
        knit_lane_emit_at(&entry->in, knit_job_slot(&entry->job), knit_job_gen(&entry->job), value);
    unlock();
}

/* ---- ends ----------------------------------------------------------------------------------- */

/* What is over may be in the lane, which drops it. */
void knit_deferred_close_session(struct knit_deferreds *deferreds, uint64_t session)
{
    lock();
    for (uint32_t i = 0; i < all.count; i++) {
        struct knit_deferred_call *entry = all.entries[i];

        if (entry->owner == deferreds && entry->job.session == session)
            entry->has_session = false;
    }
    unlock();
}

bool knit_deferred_is_over(struct knit_deferreds *deferreds)
{
    bool is_over = true;

    lock();
    for (uint32_t i = 0; i < all.count; i++) {
        const struct knit_deferred_call *entry = all.entries[i];

        if (entry->owner == deferreds && entry->has_session && !(entry->is_over && entry->is_done))
            is_over = false;
    }
    unlock();
    return is_over;
}

/* What is in the lane comes back from there. What is over and never got there is of a task that
 * ended its thread. */
void knit_deferred_fini(struct knit_deferreds *deferreds)
{
    lock();
    for (uint32_t i = 0; i < all.count; i++) {
        struct knit_deferred_call *entry = all.entries[i];

        if (entry->last == deferreds)
            entry->last = &orphans;
        if (entry->owner != deferreds || (entry->is_over && !entry->is_done && entry->has_returned))
            continue;
        orphan(entry);
        leave_if_done(entry);
    }
    deferreds->max = 0;
    while (deferreds->handing != 0)
        (void)pthread_cond_wait(&all.changed, &all.mutex);
    unlock();
}
