/* SPDX-License-Identifier: Apache-2.0 */
/* A place is free, waits in the order of its coming, or runs. The place that runs is taken out of
 * the queue first and is free before its outcome is given, so that whoever gets it may start calls.
 */
#include "fastpath/worker/inliner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/layout.h"
#include "fastpath/worker/call.h"
#include "fastpath/worker/float_state.h"
#include "fastpath/worker/runner.h"

#define NO_PLACE UINT32_MAX

struct place {
    uint32_t before, next; /* in the queue; next: of a free one, too */
    uint32_t task;         /* in the pool */
    bool is_cancelled;
    bool is_forgotten; /* it runs, and nobody waits */
    bool wants_output, wants_progress;
    bool is_observed; /* and has a trace, which may be none */
    struct knit_trace trace;
    uint32_t emitted; /* values */
    uint32_t len;
    uint64_t deadline_ns;
    void *user;
    uint8_t *large; /* params that are not small; or NULL */
    _Alignas(8) uint8_t small[KNIT_INLINE_MAX + KNIT_HEAD_SPARE];
};

struct knit_inliner {
    struct knit_inliner_options options;
    struct knit_call_inlined inlined;
    struct knit_runner *runner;
    uint32_t *counts; /* [tasks of the pool] */
    uint16_t *turns;  /* [the same]: where in its round the next call is */
    struct place *places;
    uint32_t free, first, last, running; /* places; NO_PLACE = none */
    uint32_t in_flight;
    struct knit_job job; /* of the one that runs, and its outcome until that is given */
};

/* ---- what a task asks ----------------------------------------------------------------------- */

static void emit(void *arg, struct knit_span value)
{
    struct knit_inliner *inliner = arg;
    struct place *place = &inliner->places[inliner->running];

    place->emitted++;
    if (!place->is_forgotten)
        inliner->options.on_value(inliner->options.arg, place->user, value, place->emitted);
}

static bool is_over(void *arg)
{
    const struct knit_inliner *inliner = arg;

    return inliner->options.is_over(inliner->options.arg);
}

/* ---- lifetime ------------------------------------------------------------------------------- */

static int allocate(struct knit_inliner *inliner)
{
    const struct knit_inliner_options *options = &inliner->options;
    const uint32_t tasks = knit_inline_tasks_count(options->tasks);
    const struct knit_runner_options runner = {.modules = knit_inline_tasks_modules(options->tasks),
        .result_max_bytes = options->result_max_bytes,
        .inlined = &inliner->inlined};

    inliner->counts = calloc((size_t)tasks + 1, sizeof(*inliner->counts));
    inliner->turns = calloc((size_t)tasks + 1, sizeof(*inliner->turns));
    inliner->places = calloc(options->places, sizeof(*inliner->places));
    if (inliner->counts == NULL || inliner->turns == NULL || inliner->places == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < options->places; i++)
        inliner->places[i].next = i + 1 < options->places ? i + 1 : NO_PLACE;
    return knit_runner_new(&runner, &inliner->runner);
}

int knit_inliner_new(const struct knit_inliner_options *options, struct knit_inliner **ret_inliner)
{
    struct knit_inliner *inliner = calloc(1, sizeof(*inliner));

    if (inliner == NULL)
        return -ENOMEM;
    inliner->options = *options;
    inliner->first = inliner->last = inliner->running = NO_PLACE;
    inliner->inlined = (struct knit_call_inlined){emit, is_over, inliner};
    if (allocate(inliner) != 0) {
        (void)knit_inliner_free(inliner);
        return -ENOMEM;
    }
    *ret_inliner = inliner;
    return 0;
}

struct knit_inliner *knit_inliner_free(struct knit_inliner *inliner)
{
    if (inliner == NULL)
        return NULL;
    for (uint32_t i = 0; inliner->places != NULL && i < inliner->options.places; i++)
        free(inliner->places[i].large);
    (void)knit_runner_free(inliner->runner);
    free(inliner->counts);
    free(inliner->turns);
    free(inliner->places);
    free(inliner);
    return NULL;
}

/* ---- which calls ---------------------------------------------------------------------------- */

bool knit_inliner_has(const struct knit_inliner *inliner, uint32_t task)
{
    return knit_inline_tasks_find(inliner->options.tasks, task) != KNIT_INLINE_ISOLATED;
}

bool knit_inliner_is_alone(const struct knit_inliner *inliner)
{
    return inliner->options.workers == 0;
}

void knit_inliner_count(struct knit_inliner *inliner, uint32_t task)
{
    inliner->counts[task]++;
}

void knit_inliner_uncount(struct knit_inliner *inliner, uint32_t task)
{
    inliner->counts[task]--;
}

uint32_t knit_inliner_counted(const struct knit_inliner *inliner, uint32_t task)
{
    return task < knit_inline_tasks_count(inliner->options.tasks) ? inliner->counts[task] : 0;
}

/* A worker answers what is quarantined, which need not be trusted here. */
static bool is_quarantined(const struct knit_inliner *inliner, uint32_t task)
{
    /* relaxed, as in mark.h. */
    return inliner->options.marks != NULL && atomic_load_explicit(&inliner->options.marks[task],
                                                 memory_order_relaxed) == KNIT_MARK_QUARANTINED;
}

bool knit_inliner_takes(struct knit_inliner *inliner, uint32_t task)
{
    const struct knit_inliner_settings *settings = &inliner->options.settings;
    const uint32_t workers = inliner->options.workers;
    uint32_t turn;

    if (!knit_inliner_has(inliner, task) || inliner->free == NO_PLACE)
        return false;
    if (workers == 0)
        return true;
    if (is_quarantined(inliner, task) || inliner->counts[task] + 1 < settings->threshold)
        return false;
    turn = inliner->turns[task];
    inliner->turns[task] = (uint16_t)(turn < workers ? turn + 1 : 0);
    return turn == (settings->at == KNIT_INLINER_AT_FIRST ? 0 : workers);
}

/* ---- the queue ------------------------------------------------------------------------------ */

static void append(struct knit_inliner *inliner, uint32_t index)
{
    inliner->places[index].next = NO_PLACE;
    inliner->places[index].before = inliner->last;
    if (inliner->last == NO_PLACE)
        inliner->first = index;
    else
        inliner->places[inliner->last].next = index;
    inliner->last = index;
}

static void take_out(struct knit_inliner *inliner, uint32_t index)
{
    const struct place *place = &inliner->places[index];

    if (place->before == NO_PLACE)
        inliner->first = place->next;
    else
        inliner->places[place->before].next = place->next;
    if (place->next == NO_PLACE)
        inliner->last = place->before;
    else
        inliner->places[place->next].before = place->before;
}

static void leave(struct knit_inliner *inliner, uint32_t index)
{
    struct place *place = &inliner->places[index];

    free(place->large);
    place->large = NULL;
    place->next = inliner->free;
    inliner->free = index;
    inliner->in_flight--;
}

static bool keep_params(struct place *place, struct knit_span params)
{
    uint8_t *to = place->small;

    if (params.len > KNIT_INLINE_MAX) {
        to = place->large = malloc(params.len + KNIT_HEAD_SPARE);
        if (to == NULL)
            return false;
        memset(to + params.len, 0, KNIT_HEAD_SPARE);
    }
    if (params.len > 0)
        memcpy(to, params.bytes, params.len);
    place->len = (uint32_t)params.len;
    return true;
}

int knit_inliner_add(
    struct knit_inliner *inliner, const struct knit_inliner_call *call, uint32_t *ret_place)
{
    const uint32_t index = inliner->free;
    struct place *place;

    if (index == NO_PLACE)
        return -ENOSPC;
    place = &inliner->places[index];
    if (!keep_params(place, call->params))
        return -ENOMEM;
    inliner->free = place->next;
    place->task = call->task;
    place->deadline_ns = call->deadline_ns;
    place->wants_output = call->wants_output;
    place->wants_progress = call->wants_progress;
    place->is_observed = call->trace != NULL;
    if (place->is_observed)
        place->trace = *call->trace;
    place->user = call->user;
    place->is_cancelled = place->is_forgotten = false;
    place->emitted = 0;
    append(inliner, index);
    inliner->in_flight++;
    *ret_place = index;
    return 0;
}

enum knit_started knit_inliner_remove(struct knit_inliner *inliner, uint32_t place)
{
    if (place == inliner->running) {
        inliner->places[place].is_forgotten = true;
        return KNIT_STARTED_YES;
    }
    take_out(inliner, place);
    leave(inliner, place);
    return KNIT_STARTED_NO;
}

bool knit_inliner_withdraw(struct knit_inliner *inliner, uint32_t place)
{
    return place != inliner->running && knit_inliner_remove(inliner, place) == KNIT_STARTED_NO;
}

void knit_inliner_cancel(struct knit_inliner *inliner, uint32_t place)
{
    inliner->places[place].is_cancelled = true;
}

uint32_t knit_inliner_in_flight(const struct knit_inliner *inliner)
{
    return inliner->in_flight;
}

bool knit_inliner_has_work(const struct knit_inliner *inliner)
{
    return inliner->first != NO_PLACE && inliner->running == NO_PLACE;
}

/* ---- running -------------------------------------------------------------------------------- */

static bool is_past(uint64_t deadline_ns)
{
    return deadline_ns != 0 && knit_clock_ns() >= deadline_ns;
}

/* The state that the task finds is a worker's, and what it leaves is nobody's. */
static void run_apart(struct knit_runner *runner, struct knit_job *job)
{
    struct knit_float_state state;

    knit_float_save(&state);
    knit_float_restore();
    knit_runner_run(runner, job);
    knit_float_put_back(&state);
}

/* Returns how long it ran. */
static uint64_t run_measured(struct knit_runner *runner, struct knit_job *job)
{
    const uint64_t start_ns = knit_clock_ns();

    run_apart(runner, job);
    return job->was_refused ? 0 : (knit_clock_ns() - start_ns) | 1;
}

static int refusal_of(const struct knit_inliner *inliner, const struct place *place)
{
    if (inliner->options.is_over(inliner->options.arg))
        return KNIT_SHUTDOWN;
    return place->is_cancelled ? KNIT_CANCELLED : 0;
}

static void run_place(
    struct knit_inliner *inliner, const struct place *place, struct knit_inlined *inlined)
{
    const uint32_t own = knit_inline_tasks_find(inliner->options.tasks, place->task);
    struct knit_job *job = &inliner->job;

    /* The body is large, and nobody reads what the runner has not written. */
    job->session = job->ctrl = 0;
    job->meta = knit_meta(own, knit_runner_epoch(inliner->runner), 0, place->len);
    job->deadline_ns = place->deadline_ns;
    job->payload = place->large != NULL ? place->large : place->small;
    job->result_max = inliner->options.result_max_bytes;
    job->refusal = refusal_of(inliner, place);
    job->wants_output = place->wants_output;
    job->wants_progress = place->wants_progress;
    job->is_traced = place->is_observed && knit_trace_is_valid(&place->trace);
    if (job->is_traced)
        job->trace = place->trace;
    job->was_refused = false;
    if (place->is_observed)
        inlined->run_ns = run_measured(inliner->runner, job);
    else
        run_apart(inliner->runner, job);
    inlined->is_error = job->status != KNIT_STATUS_RESULT;
    inlined->outcome = knit_span(job->result, job->result_len);
    inlined->is_late = job->refusal == 0 && is_past(place->deadline_ns);
    inlined->started = KNIT_STARTED_YES;
}

static void run_first(struct knit_inliner *inliner)
{
    const struct knit_inliner_options *options = &inliner->options;
    const uint32_t index = inliner->first;
    struct place *place = &inliner->places[index];
    struct knit_inlined inlined = {.place = index, .is_late = true, .started = KNIT_STARTED_NO};
    void *user = place->user;
    bool is_forgotten;

    take_out(inliner, index);
    inliner->running = index;
    if (!is_past(place->deadline_ns))
        run_place(inliner, place, &inlined);
    inliner->running = NO_PLACE;
    is_forgotten = place->is_forgotten;
    leave(inliner, index);
    if (!is_forgotten)
        options->on_end(options->arg, user, &inlined);
}

uint32_t knit_inliner_turn(struct knit_inliner *inliner)
{
    uint32_t count = 0;

    while (count < inliner->options.settings.batch && knit_inliner_has_work(inliner)) {
        run_first(inliner);
        count++;
    }
    return count;
}

void *knit_inliner_abandon(struct knit_inliner *inliner)
{
    const uint32_t index = inliner->running;
    void *user;

    if (index == NO_PLACE)
        return NULL;
    inliner->running = NO_PLACE;
    user = inliner->places[index].is_forgotten ? NULL : inliner->places[index].user;
    leave(inliner, index);
    return user;
}
