/* SPDX-License-Identifier: Apache-2.0 */
/* Power of two choices, and the calls that have none. */
#include "clients/lib/choose.h"

#include "clients/lib/chance.h"
#include "clients/lib/handle.h"

static uint64_t draw(struct knit_handles *handles)
{
    return knit_chance_next(&handles->promises.retries.random);
}

static bool is_full(const struct knit_stream *stream)
{
    return stream->places_taken >= stream->places_limit ||
           stream->out.len - stream->out_sent > KNIT_STREAM_OUT_MAX;
}

/* What a server says of its workers is believed as far as this: one that takes calls and answers
 * none keeps no more of them than that before another one is asked. */
static uint64_t believed(uint64_t workers, uint64_t others)
{
    return workers < others * KNIT_WORKERS_RATIO ? workers : others * KNIT_WORKERS_RATIO;
}

/* Whether `left` has no more to do than `right`, each for what it can do. */
static bool is_better(const struct knit_stream *left, const struct knit_stream *right)
{
    return ((uint64_t)left->places_taken + 1) * believed(right->workers, left->workers) <=
           ((uint64_t)right->places_taken + 1) * believed(left->workers, right->workers);
}

/* Those that may take the call. */
static uint32_t gather(const struct knit_handles *handles, const struct knit_stream *avoided,
    struct knit_stream *found[KNIT_STREAMS_MAX])
{
    struct knit_stream *stream, *other = NULL;
    uint32_t count = 0;

    for (stream = handles->several; stream != NULL; stream = stream->next) {
        if (!knit_stream_is_open(stream) || stream->has_goaway)
            continue;
        if (knit_stream_takes_calls(stream) && stream != avoided)
            found[count++] = stream;
        else if (other == NULL || !stream->is_out)
            other = stream;
    }
    if (count == 0 && other != NULL)
        found[count++] = other;
    return count;
}

void knit_handles_choose(struct knit_handles *handles, const struct knit_stream *avoided)
{
    struct knit_stream *found[KNIT_STREAMS_MAX];
    const uint32_t count = gather(handles, avoided, found);
    uint32_t best, other;

    if (count == 0)
        return;
    best = (uint32_t)(draw(handles) % count);
    if (count > 1) {
        other = (best + 1 + (uint32_t)(draw(handles) % (count - 1))) % count;
        best = is_better(found[best], found[other]) ? best : other;
    }
    for (uint32_t i = 0; is_full(found[best]) && i < count; i++)
        best = is_full(found[i]) ? best : i;
    handles->stream = found[best];
}

/* Of which each pair of a key and a server has one by chance; the server with the largest has the
 * key. When another one comes or goes, only its own keys move. */
static uint64_t weight(struct knit_span key, uint64_t instance)
{
    uint64_t number = 0xcbf29ce484222325u ^ instance;

    for (size_t i = 0; i < key.len; i++)
        number = (number ^ key.bytes[i]) * 0x100000001b3u;
    number = (number ^ number >> 32) * 0x9e3779b97f4a7c15u;
    return number ^ number >> 29;
}

bool knit_handles_choose_instance(struct knit_handles *handles, uint64_t instance)
{
    struct knit_stream *stream;

    for (stream = handles->several; stream != NULL; stream = stream->next) {
        if (!knit_stream_is_open(stream) || stream->has_goaway || stream->instance != instance)
            continue;
        handles->stream = stream;
        return true;
    }
    return false;
}

void knit_handles_note_key(struct knit_handles *handles, struct knit_span key)
{
    const uint64_t number = weight(key, 0);

    if (handles->promises.keys != NULL)
        handles->promises.keys[number % KNIT_KEY_PLACES] =
            (struct knit_key_place){number, handles->stream->instance};
}

/* Whether it goes where it was sent before. */
static bool choose_again_by_key(struct knit_handles *handles, struct knit_span key)
{
    const uint64_t number = weight(key, 0);
    const struct knit_key_place *place = handles->promises.keys;

    if (place == NULL)
        return false;
    place += number % KNIT_KEY_PLACES;
    return place->key == number && place->instance != 0 &&
           knit_handles_choose_instance(handles, place->instance);
}

void knit_handles_choose_by_key(struct knit_handles *handles, struct knit_span key)
{
    struct knit_stream *found[KNIT_STREAMS_MAX];
    const uint32_t count = gather(handles, NULL, found);
    uint64_t most = 0;

    if (choose_again_by_key(handles, key))
        return;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t number = weight(key, found[i]->instance);

        if (i == 0 || number > most) {
            handles->stream = found[i];
            most = number;
        }
    }
}

bool knit_handles_choose_for(struct knit_handles *handles, const struct knit_promise *promise)
{
    for (uint32_t i = 0; i < promise->count; i++) {
        const struct knit_handle *source = promise->holes[i].source;

        if (source == NULL || (source->flags & KNIT_HANDLE_WAITING) == 0 ||
            knit_handle_via(source) != KNIT_VIA_STREAM || !knit_stream_takes_calls(source->stream))
            continue;
        handles->stream = source->stream;
        return true;
    }
    return false;
}

void knit_handles_choose_again(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;
    const struct knit_span key = handle->promise->options.key;
    const bool is_again = (handle->flags & KNIT_HANDLE_RETRIED) != 0 && handle->retry->attempts > 1;

    if (is_again && handle->retry->instance != 0 &&
        knit_handles_choose_instance(handles, handle->retry->instance))
        return;
    if (key.bytes != NULL)
        knit_handles_choose_by_key(handles, key);
    else
        knit_handles_choose(handles, is_again ? handle->stream : NULL);
}
