/* SPDX-License-Identifier: Apache-2.0 */
/* A task that ends its thread unwinds the loop. A cleanup handler notices it, and not a destructor
 * of thread-specific data: those run later, with those of the task's own libraries, in any order.
 */
#include "fastpath/worker/serve.h"

#include <pthread.h>

#include "fastpath/worker/deferred.h"
#include "fastpath/worker/float_state.h"

int knit_serve_init(struct knit_serve *serve, const struct knit_runner_options *runner,
    const struct knit_lane_options *lane)
{
    struct knit_lane_options own = *lane;
    int error;

    *serve = (struct knit_serve){0};
    error = knit_runner_new(runner, &serve->runner);
    if (error != 0)
        return error;
    own.run = knit_runner_run;
    own.serve = knit_runner_serve;
    own.on_deferred = knit_runner_let_go;
    own.on_finished = knit_deferred_on_finished;
    own.is_over = knit_runner_is_over;
    own.run_arg = serve->runner;
    error = knit_lane_new(&own, &serve->lane);
    if (error == 0)
        knit_runner_set_lane(serve->runner, serve->lane);
    knit_runner_count_late(serve->runner, &own.pool.note[own.index].late);
    return error;
}

void knit_serve_fini(struct knit_serve *serve)
{
    if (serve->runner != NULL)
        knit_runner_end_deferred(serve->runner);
    serve->lane = knit_lane_free(serve->lane);
    serve->runner = knit_runner_free(serve->runner);
}

void knit_serve_run(struct knit_serve *serve, void (*on_thread_end)(void *arg), void *arg)
{
    knit_float_restore();
    pthread_cleanup_push(on_thread_end, arg);
    while (knit_lane_turn(serve->lane) != KNIT_LANE_STOPPED)
        ;
    pthread_cleanup_pop(0);
}
