/* SPDX-License-Identifier: Apache-2.0 */
/* How all files look is one digest of what stat() says of each, links followed: another file under
 * the same name has another number, one that is written to another size or time. */
#include "server/daemon/file_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <sys/stat.h>

/* One that is not there looks like nothing else. */
static void add(struct knit_siphash *hash, const char *path)
{
    uint64_t looks[6] = {0};
    struct stat status;

    if (path == NULL)
        return;
    if (stat(path, &status) == 0) {
        looks[0] = 1 + status.st_dev;
        looks[1] = status.st_ino;
        looks[2] = (uint64_t)status.st_size;
        looks[3] = (uint64_t)status.st_mtim.tv_sec;
        looks[4] = (uint64_t)status.st_mtim.tv_nsec;
        /* Who may write it counts for tokens. */
        looks[5] = (uint64_t)status.st_mode << 32 | status.st_uid;
    }
    knit_siphash_add(hash, looks, sizeof(looks));
}

static struct knit_digest look(const struct knit_settings *settings)
{
    const char *const paths[] = {settings->tls_client_ca, settings->tls_crl,
        settings->tls_ticket_keys, settings->policy, settings->tokens};
    static const uint64_t key[2]; /* who could aim at it could write the files */
    struct knit_siphash hash;

    knit_siphash_begin(&hash, key);
    for (size_t i = 0; i < settings->tls_certificate.count; i++)
        add(&hash, settings->tls_certificate.items[i]);
    for (size_t i = 0; i < settings->tls_key.count; i++)
        add(&hash, settings->tls_key.items[i]);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        add(&hash, paths[i]);
    return knit_siphash_end(&hash);
}

static bool is_same(const struct knit_digest *a, const struct knit_digest *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

void knit_file_watch_init(struct knit_file_watch *watch, const struct knit_settings *settings)
{
    *watch = (struct knit_file_watch){.settings = settings, .read = look(settings)};
    watch->last = watch->read;
}

bool knit_file_watch_look(struct knit_file_watch *watch)
{
    struct knit_digest now = look(watch->settings);
    bool is_steady = is_same(&now, &watch->last);

    watch->last = now;
    if (!is_steady || is_same(&now, &watch->read))
        return false;
    watch->read = now;
    return true;
}

static void on_time(evutil_socket_t fd, short events, void *arg)
{
    struct knit_file_watch *watch = arg;

    (void)fd, (void)events;
    if (knit_file_watch_look(watch))
        watch->on_change(watch->arg);
}

int knit_file_watch_start(
    struct knit_file_watch *watch, struct event_base *base, void (*on_change)(void *arg), void *arg)
{
    const struct timeval pause = {(time_t)watch->settings->reload_check_s, 0};

    if (watch->settings->reload_check_s == 0)
        return 0;
    watch->on_change = on_change;
    watch->arg = arg;
    watch->event = event_new(base, -1, EV_PERSIST, on_time, watch);
    return watch->event != NULL && event_add(watch->event, &pause) == 0 ? 0 : -ENOMEM;
}

void knit_file_watch_stop(struct knit_file_watch *watch)
{
    if (watch->event != NULL)
        event_free(watch->event);
    watch->event = NULL;
}
