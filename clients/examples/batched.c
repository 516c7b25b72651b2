/* SPDX-License-Identifier: Apache-2.0 */
/* Many calls, a batch at a time: start all of a batch, wait for the first of them (which sends them
 * all at once), then for the others. All are calls of one prepared call, which works out once what
 * they have in common.
 *
 *     batched URL TASK COUNT BATCH [INT [INT]]
 *
 * calls TASK with the integers as its arguments COUNT times and prints how long that took. The
 * results of the first and the last call are compared: they must be the same bytes.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <knitting/knitting.h>

struct work {
    struct knit *k;
    struct knit_prepared *prepared;
    int64_t a, b;
    struct knit_handle **handles;
    unsigned char first[256];
    size_t first_len;
    bool has_first;
};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int compare_with_first(
    struct work *work, struct knit_handle *handle, struct knit_error *error)
{
    const void *result;
    size_t len;
    int code = knit_result_raw(handle, error, &result, &len);

    if (code != KNIT_OK || len > sizeof(work->first))
        return code;
    if (!work->has_first) {
        memcpy(work->first, result, len);
        work->first_len = len;
        work->has_first = true;
    } else if (len != work->first_len || memcmp(work->first, result, len) != 0) {
        fprintf(stderr, "two calls gave two results\n");
        exit(1);
    }
    return KNIT_OK;
}

static int run_batch(struct work *work, long count, struct knit_error *error)
{
    int code = KNIT_OK;

    /* Of a and b, as many are passed on as the signature has parameters. */
    for (long i = 0; i < count && code == KNIT_OK; i++)
        code =
            knit_start_prepared(work->prepared, NULL, &work->handles[i], error, work->a, work->b);
    for (long i = 0; i < count && code == KNIT_OK; i++) {
        code = knit_await(work->handles[i], -1, error);
        if (code == KNIT_OK)
            code = compare_with_first(work, work->handles[i], error);
        knit_free(work->handles[i]);
    }
    return code;
}

int main(int argc, char **argv)
{
    static const char *const signatures[] = {"()", "(int)", "(int, int)"};
    struct work work = {0};
    struct knit_error error;
    long count, batch;
    double seconds;
    int code = KNIT_OK;

    if (argc < 5 || argc > 7) {
        fprintf(stderr, "usage: batched URL TASK COUNT BATCH [INT [INT]]\n");
        return 2;
    }
    work.a = argc > 5 ? strtoll(argv[5], NULL, 10) : 0;
    work.b = argc > 6 ? strtoll(argv[6], NULL, 10) : 0;
    count = strtol(argv[3], NULL, 10);
    batch = strtol(argv[4], NULL, 10);
    work.handles = batch > 0 ? calloc((size_t)batch, sizeof(struct knit_handle *)) : NULL;
    if (work.handles == NULL || count <= 0) {
        fprintf(stderr, "COUNT and BATCH must be at least 1\n");
        free(work.handles);
        return 2;
    }

    if (knit_open(argv[1], NULL, &work.k, &error) != KNIT_OK) {
        fprintf(stderr, "%s: %s\n", error.name, error.message);
        free(work.handles);
        return 1;
    }
    code = knit_prepare(work.k, &error, argv[2], signatures[argc - 5], &work.prepared);
    seconds = now();
    for (long left = count; left > 0 && code == KNIT_OK; left -= batch)
        code = run_batch(&work, left < batch ? left : batch, &error);
    seconds = now() - seconds;
    if (code == KNIT_OK)
        printf("%ld calls of %s, %ld at a time: %.3f s, %.0f calls/s\n", count, argv[2], batch,
            seconds, (double)count / seconds);
    else
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    knit_close(work.k);
    free(work.handles);
    return code == KNIT_OK ? 0 : 1;
}
