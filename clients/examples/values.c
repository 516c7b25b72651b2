/* SPDX-License-Identifier: Apache-2.0 */
/* Values of every kind: a map is built, goes to a task and comes back, and is read.
 *
 *     values URL        prints what `echo` has given back
 *
 * cc -o values values.c $(pkg-config --cflags --libs knitting)
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <knitting/knitting.h>
#include <knitting/values.h>

static void build_parcel(struct knit_builder *parcel)
{
    static const double weights[] = {0.25, 1.5, 3};
    static const unsigned char number[] = {0, 0, 0, 0, 0, 0, 0, 0, 1}; /* 2^64 */

    knit_put_map(parcel, 5);
    knit_put_text(parcel, "pieces");
    knit_put_int(parcel, 4);
    knit_put_text(parcel, "weights");
    knit_put_typed(parcel, KNIT_F64, weights, 3);
    knit_put_text(parcel, "number");
    knit_put_bigint(parcel, false, number, sizeof(number));
    knit_put_text(parcel, "marks");
    knit_put_set(parcel, 2);
    knit_put_text(parcel, "fragile");
    knit_put_text(parcel, "heavy");
    knit_put_text(parcel, "last error");
    knit_put_error(parcel, "AddressError", "nobody was there", 1);
    knit_put_text(parcel, "code");
    knit_put_int(parcel, 7);
}

/* Returns KNIT_OK if everything was what it was taken for. */
static int print_parcel(const void *bytes, size_t len)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value parcel = knit_read(&reader, bytes, len), mark;
    struct knit_value error = knit_value_get(parcel, "last error");
    struct knit_items marks = knit_value_items(knit_value_get(parcel, "marks"));
    int64_t pieces = knit_value_int(knit_value_get(parcel, "pieces"));
    size_t count, text_len;
    const double *weights = knit_value_f64s(knit_value_get(parcel, "weights"), &count);
    const char *text;
    char why[200];

    for (size_t i = 0; i < count; i++)
        printf("%" PRId64 " of %g kg\n", pieces, weights[i]);
    while (knit_items_next(&marks, NULL, &mark)) {
        text = knit_value_text(mark, &text_len);
        printf("%.*s\n", (int)text_len, text);
    }
    text = knit_value_text(knit_value_get(error, "message"), &text_len);
    printf("%.*s (%" PRId64 ")\n", (int)text_len, text != NULL ? text : "",
        knit_value_int(knit_value_get(error, "code")));
    if (knit_reader_code(&reader) == KNIT_OK)
        return KNIT_OK;
    knit_reader_explain(&reader, why, sizeof(why));
    fprintf(stderr, "%s\n", why);
    return knit_reader_code(&reader);
}

int main(int argc, char **argv)
{
    struct knit *k;
    struct knit_error error;
    const void *bytes;
    size_t len;
    int code;
    KNIT_BUILDER(parcel);

    if (argc != 2) {
        fprintf(stderr, "usage: values URL\n");
        return 2;
    }
    build_parcel(parcel);
    if (knit_built(parcel, &bytes, &len) != KNIT_OK) {
        fprintf(stderr, "%s\n", knit_builder_reason(parcel));
        return 1;
    }
    code = knit_open(argv[1], NULL, &k, &error);
    if (code == KNIT_OK)
        code = knit_call(k, &error, "echo", "(map) -> map", bytes, len, &bytes, &len);
    if (code != KNIT_OK)
        fprintf(stderr, "%s: %s\n", error.name, error.message);
    else
        code = print_parcel(bytes, len);
    knit_close(k);
    return code != KNIT_OK;
}
