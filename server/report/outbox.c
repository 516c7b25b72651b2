/* SPDX-License-Identifier: Apache-2.0 */
/* The thread is woken once for all that comes before it has found nothing to take: `is_awake` says
 * that it will look again. */
#include "server/report/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fastpath/lane/fd.h"

int knit_outboxes_open(struct knit_outboxes *outboxes, uint32_t count, size_t max_bytes)
{
    *outboxes = (struct knit_outboxes){.count = count};
    (void)pthread_mutex_init(&outboxes->mutex, NULL);
    outboxes->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (outboxes->wake_fd < 0)
        return -errno;
    outboxes->items = calloc(count, sizeof(*outboxes->items));
    if (outboxes->items == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        outboxes->items[i].all = outboxes;
        knit_buffer_init(&outboxes->items[i].turn, max_bytes);
        knit_buffer_init(&outboxes->items[i].handed, max_bytes);
    }
    return 0;
}

void knit_outboxes_fini(struct knit_outboxes *outboxes)
{
    if (outboxes->count == 0)
        return;
    for (uint32_t i = 0; outboxes->items != NULL && i < outboxes->count; i++) {
        knit_buffer_fini(&outboxes->items[i].turn);
        knit_buffer_fini(&outboxes->items[i].handed);
    }
    free(outboxes->items);
    knit_fd_close(&outboxes->wake_fd);
    (void)pthread_mutex_destroy(&outboxes->mutex);
    *outboxes = (struct knit_outboxes){.wake_fd = -1};
}

/* A buffer that refused one piece takes the next one that fits. */
static bool append(struct knit_buffer *buffer, const void *bytes, size_t len)
{
    if (knit_buffer_append(buffer, bytes, len) == 0)
        return true;
    buffer->error = 0;
    return false;
}

bool knit_outbox_put(struct knit_outbox *outbox, const void *piece, size_t len)
{
    if (!append(&outbox->turn, piece, len)) {
        outbox->dropped++;
        return false;
    }
    outbox->turn_pieces++;
    return true;
}

/* With the mutex. */
static void wake(struct knit_outboxes *outboxes)
{
    const uint64_t one = 1;

    if (outboxes->is_awake)
        return;
    outboxes->is_awake = true;
    (void)!write(outboxes->wake_fd, &one, sizeof(one));
}

uint64_t knit_outbox_hand_over(struct knit_outbox *outbox)
{
    struct knit_outboxes *all = outbox->all;
    uint64_t dropped = outbox->dropped;

    if (outbox->turn_pieces == 0 && dropped == 0)
        return 0;
    (void)pthread_mutex_lock(&all->mutex);
    if (append(&outbox->handed, outbox->turn.bytes, outbox->turn.len))
        outbox->handed_pieces += outbox->turn_pieces;
    else
        dropped += outbox->turn_pieces;
    all->dropped += dropped;
    wake(all);
    (void)pthread_mutex_unlock(&all->mutex);
    knit_buffer_reset(&outbox->turn);
    outbox->turn_pieces = outbox->dropped = 0;
    return dropped;
}

void knit_outboxes_wake(struct knit_outboxes *outboxes)
{
    (void)pthread_mutex_lock(&outboxes->mutex);
    wake(outboxes);
    (void)pthread_mutex_unlock(&outboxes->mutex);
}

void knit_outboxes_close(struct knit_outboxes *outboxes)
{
    (void)pthread_mutex_lock(&outboxes->mutex);
    outboxes->is_closed = true;
    wake(outboxes);
    (void)pthread_mutex_unlock(&outboxes->mutex);
}

/* With the mutex. */
static void take(struct knit_outbox *outbox, struct knit_load *load)
{
    const struct knit_buffer taken = outbox->handed;

    knit_buffer_reset(&load->bytes);
    load->bytes.max = taken.max;
    outbox->handed = load->bytes;
    load->bytes = taken;
    load->pieces = outbox->handed_pieces;
    outbox->handed_pieces = 0;
}

bool knit_outboxes_take(struct knit_outboxes *outboxes, struct knit_load *load, bool *ret_is_closed)
{
    bool has_some = false;
    uint64_t times;

    (void)pthread_mutex_lock(&outboxes->mutex);
    for (uint32_t i = 0; !has_some && i < outboxes->count; i++) {
        const uint32_t from = (outboxes->next + i) % outboxes->count;

        has_some = outboxes->items[from].handed.len > 0;
        if (!has_some)
            continue;
        take(&outboxes->items[from], load);
        load->from = from;
        outboxes->next = from + 1;
    }
    if (!has_some) {
        (void)!read(outboxes->wake_fd, &times, sizeof(times));
        outboxes->is_awake = false;
    }
    *ret_is_closed = !has_some && outboxes->is_closed;
    (void)pthread_mutex_unlock(&outboxes->mutex);
    return has_some;
}

size_t knit_outboxes_most(struct knit_outboxes *outboxes)
{
    size_t most = 0;

    (void)pthread_mutex_lock(&outboxes->mutex);
    for (uint32_t i = 0; i < outboxes->count; i++)
        if (outboxes->items[i].handed.len > most)
            most = outboxes->items[i].handed.len;
    (void)pthread_mutex_unlock(&outboxes->mutex);
    return most;
}

uint64_t knit_outboxes_dropped(struct knit_outboxes *outboxes)
{
    uint64_t dropped;

    (void)pthread_mutex_lock(&outboxes->mutex);
    dropped = outboxes->dropped;
    outboxes->dropped = 0;
    (void)pthread_mutex_unlock(&outboxes->mutex);
    return dropped;
}
