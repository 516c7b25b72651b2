/* SPDX-License-Identifier: Apache-2.0 */
/* A program with a pool of its own: no daemon. Two workers add in parallel.
 *
 *     pool MODULE COUNT       prints 1 + ... + COUNT, added by the module's task `add`
 *
 * cc -o pool pool.c $(pkg-config --cflags --libs knitting)
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <knitting/pool.h>

enum { BATCH = 256 };

static void on_event(void *user, const struct knit_pool_event *event)
{
    (void)user;
    if (event->kind == KNIT_POOL_WORKER_DIED)
        fprintf(stderr, "worker %u died: %s\n", event->worker, event->text);
}

/* 1 + ... + count, in calls that run side by side: each adds a number and the one at the other end.
 */
static int add_up(struct knit *k, int64_t count, int64_t *ret_sum, struct knit_error *error)
{
    struct knit_handle *handle[BATCH];
    int code = KNIT_OK;

    *ret_sum = count % 2 == 1 ? count / 2 + 1 : 0;
    for (int64_t done = 0; code == KNIT_OK && done < count / 2;) {
        int started = 0;
        int64_t sum;

        for (; started < BATCH && done < count / 2; started++, done++) {
            code = knit_start(k, NULL, &handle[started], error, "add", "(int, int) -> int",
                done + 1, count - done);
            if (code != KNIT_OK)
                break;
        }
        for (int i = 0; i < started; i++) {
            if (code == KNIT_OK)
                code = knit_await(handle[i], -1, error);
            if (code == KNIT_OK)
                code = knit_results(handle[i], error, &sum);
            if (code == KNIT_OK)
                *ret_sum += sum;
            knit_free(handle[i]);
        }
    }
    return code;
}

int main(int argc, char **argv)
{
    const char *modules[] = {argc > 1 ? argv[1] : NULL, NULL};
    struct knit_pool_options options = {
        .kind = KNIT_POOL_PROCESSES, .workers = 2, .modules = modules, .on_event = on_event};
    struct knit_pool *pool;
    struct knit *k = NULL;
    struct knit_error error;
    int64_t sum;
    int code;

    if (argc != 3) {
        fprintf(stderr, "usage: pool MODULE COUNT\n");
        return 2;
    }
    code = knit_pool_open(&options, &pool, &error);
    if (code == KNIT_OK)
        code = knit_pool_session(pool, NULL, &k, &error);
    if (code == KNIT_OK)
        code = add_up(k, strtoll(argv[2], NULL, 10), &sum, &error);
    if (code == KNIT_OK)
        printf("%" PRId64 "\n", sum);
    else
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    knit_close(k);
    knit_pool_close(pool);
    return code == KNIT_OK ? 0 : 1;
}
