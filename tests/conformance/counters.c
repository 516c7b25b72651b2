/* SPDX-License-Identifier: Apache-2.0 */
/* Of the library the counts that it keeps itself, of an arena whether all of it can be had in one
 * block, of processes what /proc shows, of the pool its stats. What is given back late, such as the
 * slot of a call that nobody waits for, is waited for. */
#include "tests/conformance/counters.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/lib/client.h"
#include "fastpath/lane/arena.h"
#include "fastpath/lane/session_private.h"
#include "tests/support/deadline.h"

enum { SETTLE_MS = 10000, WHY_BYTES = 200 };

/* ---- a session ---- */

/* An empty arena has one run that is as long as all of it. */
static bool is_arena_empty(const struct knit_session *session)
{
    uint64_t bytes = session->geometry.request_arena_bytes, offset;

    if (bytes == 0 || knit_arena_alloc(session->arena, bytes, &offset) != 0)
        return bytes == 0;
    knit_arena_release(session->arena, offset);
    return true;
}

bool counters_has_block(struct knit *k)
{
    return k->handles.lanes != NULL && !is_arena_empty(k->handles.lanes->session);
}

bool counters_has_held(struct knit *k)
{
    return k->handles.lanes != NULL && k->handles.lanes->session->held != 0;
}

/* References to prepared calls beyond those of who keeps them, declarations among these: each
 * handle has one. */
static int64_t handles_in_use(const struct knit *k)
{
    int64_t count = -(int64_t)k->prepareds.typed_count;

    for (const struct knit_prepared *at = k->prepareds.made; at != NULL; at = at->next_made)
        count += at->references;
    for (int i = 0; i < KNIT_PREPAREDS_KEPT; i++)
        count -= k->prepareds.kept[i] != NULL;
    return count - (k->last != NULL && k->last->prepared != NULL);
}

/* NULL: nothing is in use. */
static const char *find_session_leak(struct knit *k)
{
    const struct knit_session *session;

    if (handles_in_use(k) != 0)
        return "handles or prepared calls";
    if (k->handles.stream->places_taken != 0)
        return "places of the stream";
    if (k->handles.lanes == NULL)
        return NULL;
    session = k->handles.lanes->session;
    if (session->zombies != 0 || session->held != 0 || session->free != session->geometry.slots)
        return "slots";
    if (k->handles.lanes->held != 0 || k->handles.lanes->held_bytes != 0)
        return "results held";
    return is_arena_empty(session) ? NULL : "blocks of the arena";
}

static bool is_clean(struct knit *k, const char **ret_why)
{
    (void)knit_dispatch(k, NULL);
    *ret_why = find_session_leak(k);
    return *ret_why == NULL;
}

void counters_check_session(struct knit *k)
{
    const char *why;

    if (!KNIT_WAIT_UNTIL(is_clean(k, &why), SETTLE_MS))
        fail_msg("the session has left in use: %s", why);
}

/* ---- a pool, and this program ---- */

static uint64_t entries(uint64_t pid, const char *what)
{
    char path[64];
    uint64_t count = 0;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%llu/%s", (unsigned long long)pid, what);
    dir = opendir(path);
    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

void counters_read(struct place *place, struct counters *ret)
{
    const uint64_t daemon = (uint64_t)place_pid(place);
    const uint64_t lanes = place_stat(place, "pool", "lanes");

    *ret = (struct counters){
        .own_descriptors = entries((uint64_t)getpid(), "fd"),
        .own_threads = entries((uint64_t)getpid(), "task"),
        .descriptors = entries(daemon, "fd"),
        .threads = entries(daemon, "task"),
        .sessions = place_stat(place, "pool", "sessions"),
        .closing = place_stat(place, "pool", "closing_sessions"),
        .connections = place_stat(place, NULL, "connections"),
    };
    for (uint64_t lane = 0; lane < lanes && lanes != UINT64_MAX; lane++) {
        uint64_t pid = place_lane_stat(place, (uint32_t)lane, "pid");

        ret->worker_descriptors += entries(pid, "fd");
        ret->worker_threads += entries(pid, "task");
        ret->running += place_lane_stat(place, (uint32_t)lane, "is_running");
    }
}

#define SAME(member)                                                                               \
    {                                                                                              \
#member, before->member, now.member                                                        \
    }

static bool is_as_before(struct place *place, const struct counters *before, char *ret_why)
{
    struct counters now;

    counters_read(place, &now);
    {
        const struct {
            const char *name;
            uint64_t before, now;
        } all[] = {SAME(own_descriptors), SAME(own_threads), SAME(descriptors), SAME(threads),
            SAME(worker_descriptors), SAME(worker_threads), SAME(sessions), SAME(closing),
            SAME(connections), SAME(running)};

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            if (all[i].now > all[i].before) {
                (void)snprintf(ret_why, WHY_BYTES, "%s were %llu and are %llu", all[i].name,
                    (unsigned long long)all[i].before, (unsigned long long)all[i].now);
                return false;
            }
        }
    }
    return true;
}

#define LOWER(member) ret->member = ret->member < now.member ? ret->member : now.member

void counters_lower(struct place *place, struct counters *ret)
{
    struct counters now;

    counters_read(place, &now);
    LOWER(own_descriptors);
    LOWER(own_threads);
    LOWER(descriptors);
    LOWER(threads);
    LOWER(sessions);
    LOWER(closing);
    LOWER(connections);
    LOWER(running);
}

/* For whoever reads why the test failed. */
static void show_descriptors(uint64_t pid)
{
    char path[300], link[256];
    const struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%llu/fd", (unsigned long long)pid);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        ssize_t len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

        if (len > 0)
            (void)printf(
                "%llu has %s: %.*s\n", (unsigned long long)pid, entry->d_name, (int)len, link);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

void counters_check_place(struct place *place, const struct counters *before)
{
    char why[WHY_BYTES] = "";

    if (!KNIT_WAIT_UNTIL(is_as_before(place, before, why), SETTLE_MS)) {
        show_descriptors((uint64_t)place_pid(place));
        for (uint32_t lane = 0; lane < place_lanes_serving(place); lane++)
            show_descriptors(place_lane_stat(place, lane, "pid"));
        fail_msg("something is left: %s", why);
    }
}
