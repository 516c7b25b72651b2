/* SPDX-License-Identifier: Apache-2.0 */
/* knit check: inspects the memory of a daemon, which may be stuck.
 *
 * The segments of all sessions are descriptors of the host, so /proc/PID/fd leads to them as long
 * as the process exists, for its own user and for root. Their names, which the host gave them, tell
 * which segment is which. Their content was written by callers and workers and is used only after
 * it was checked. They are opened read-only, and nothing is asked of the process itself.
 *
 * A pool at work changes during the inspection: a session is half made, a list is between two
 * stores. So when something seems broken, everything is inspected a second time, from the
 * descriptors on, and only findings that occur both times are reported.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "clients/tool/tool.h"
#include "fastpath/lane/inspect.h"
#include "fastpath/lane/segment.h"

#define SESSIONS_MAX 1024u
#define BETWEEN_MS   50

/* The findings of one inspection, a sentence each. */
struct findings {
    char **sentences;
    size_t count;
};

struct checked_session {
    uint64_t id;
    int fds[2]; /* request, reply; -1 = not found */
    struct knit_mapping request, reply;
    struct knit_inspect_session view;
    struct knit_inspect_counts counts;
    struct findings findings;
    bool is_unsealed; /* its caller has not attached yet: neither host nor tool reads it */
};

struct check {
    const struct knit_tool *tool;
    int pid;
    int board_fd;
    uint32_t lanes;
    struct knit_mapping board_map;
    struct knit_board_view board;
    struct findings findings; /* of the board, and of segments that cannot be inspected */
    struct checked_session sessions[SESSIONS_MAX];
    size_t count;
};

/* ---- findings ---- */

static void add_finding(void *arg, const char *sentence)
{
    struct findings *findings = arg;
    char **more =
        realloc(findings->sentences, (findings->count + 1) * sizeof(*findings->sentences));

    if (more == NULL)
        return;
    findings->sentences = more;
    more[findings->count] = strdup(sentence);
    if (more[findings->count] != NULL)
        findings->count++;
}

static bool has_finding(const struct findings *findings, const char *sentence)
{
    for (size_t i = 0; i < findings->count; i++) {
        if (strcmp(findings->sentences[i], sentence) == 0)
            return true;
    }
    return false;
}

static void fini_findings(struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++)
        free(findings->sentences[i]);
    free(findings->sentences);
    *findings = (struct findings){0};
}

/* Keeps what the other inspection found as well. */
static void keep_common(struct findings *findings, const struct findings *other)
{
    size_t kept = 0;

    for (size_t i = 0; i < findings->count; i++) {
        if (has_finding(other, findings->sentences[i]))
            findings->sentences[kept++] = findings->sentences[i];
        else
            free(findings->sentences[i]);
    }
    findings->count = kept;
}

/* ---- the daemon's descriptors ---- */

static struct checked_session *session_of(struct check *check, uint64_t id)
{
    for (size_t i = 0; i < check->count; i++) {
        if (check->sessions[i].id == id)
            return &check->sessions[i];
    }
    if (check->count == SESSIONS_MAX)
        return NULL;
    check->sessions[check->count] = (struct checked_session){.id = id, .fds = {-1, -1}};
    return &check->sessions[check->count++];
}

/* Where the descriptor of a segment is stored; NULL: the link names no segment. */
static int *place_of(struct check *check, const char *link)
{
    static const char *const kinds[] = {"/memfd:knit-request-", "/memfd:knit-reply-"};
    struct checked_session *session;
    unsigned long long id;
    char *end;

    if (strcmp(link, "/memfd:knit-board (deleted)") == 0)
        return &check->board_fd;
    for (int i = 0; i < 2; i++) {
        size_t len = strlen(kinds[i]);

        if (strncmp(link, kinds[i], len) != 0)
            continue;
        id = strtoull(link + len, &end, 10);
        session = strcmp(end, " (deleted)") == 0 ? session_of(check, id) : NULL;
        return session != NULL ? &session->fds[i] : NULL;
    }
    return NULL;
}

static void gather_one(struct check *check, int dir, const char *name)
{
    char link[128];
    ssize_t len = readlinkat(dir, name, link, sizeof(link) - 1);
    int *place;

    if (len < 0)
        return;
    link[len] = '\0';
    place = place_of(check, link);
    /* O_NONBLOCK: by now the descriptor may be a FIFO, whose opening would wait. */
    if (place != NULL && *place < 0)
        *place = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

static int refuse(const struct check *check, int status, const char *what)
{
    return knit_tool_fail(check->tool, status, "process %d %s", check->pid, what);
}

static int gather(struct check *check)
{
    char path[64];
    struct dirent *entry;
    DIR *dir;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd", check->pid);
    dir = opendir(path);
    if (dir == NULL)
        return errno == EACCES || errno == EPERM
                   ? refuse(
                         check, KNIT_TOOL_REFUSED, "belongs to another user: ask as that or root")
                   : refuse(check, KNIT_TOOL_DISCONNECTED, "does not exist");
    while ((entry = readdir(dir)) != NULL)
        gather_one(check, dirfd(dir), entry->d_name);
    (void)closedir(dir);
    return check->board_fd >= 0
               ? KNIT_TOOL_OK
               : refuse(check, KNIT_TOOL_DISCONNECTED, "has no pool that could be opened");
}

/* NULL, or why the segment cannot be inspected. */
static const char *map_segment(int fd, enum knit_segment_kind kind,
    struct knit_segment_header *ret_head, struct knit_mapping *ret_map)
{
    const char *wrong;
    int error;

    if (fd < 0)
        return "it was not found";
    if (pread(fd, ret_head, sizeof(*ret_head), 0) != (ssize_t)sizeof(*ret_head))
        return "it cannot be read";
    wrong = knit_inspect_head(ret_head, kind, ret_head->total_bytes);
    if (wrong != NULL)
        return wrong;
    error = knit_segment_map(fd, ret_head->total_bytes, false, ret_map);
    return error == 0                         ? NULL
           : error == KNIT_SEGMENT_E_SIZE     ? "it has another size than it says"
           : error == KNIT_SEGMENT_E_UNSEALED ? "it is not sealed"
                                              : "it cannot be mapped";
}

/* The geometry is taken from the reply segment, because no caller can write there. */
static void map_session(const struct check *check, struct checked_session *session)
{
    struct knit_segment_header request, reply;
    char sentence[KNIT_INSPECT_SENTENCE_BYTES];
    const char *which = "reply";
    const char *wrong = map_segment(session->fds[1], KNIT_SEGMENT_REPLY, &reply, &session->reply);

    session->is_unsealed =
        wrong == NULL && session->fds[0] >= 0 && !knit_segment_is_sealed(session->fds[0]);
    if (session->is_unsealed)
        return;
    if (wrong == NULL) {
        which = "request";
        wrong = map_segment(session->fds[0], KNIT_SEGMENT_REQUEST, &request, &session->request);
    }
    if (wrong == NULL &&
        (request.session != session->id || reply.session != session->id ||
            memcmp(&request.geometry, &reply.geometry, sizeof(reply.geometry)) != 0 ||
            reply.geometry.lanes != check->lanes))
        wrong = "it is not of this session";
    if (wrong != NULL) {
        (void)snprintf(sentence, sizeof(sentence), "its %s segment: %s", which, wrong);
        add_finding(&session->findings, sentence);
        return;
    }
    session->view = (struct knit_inspect_session){
        .id = session->id, .geometry = reply.geometry, .board = check->board};
    knit_layout_request(&reply.geometry, session->request.base, &session->view.request);
    knit_layout_reply(&reply.geometry, session->reply.base, &session->view.reply);
}

static int map_all(struct check *check)
{
    struct knit_segment_header head;
    const char *wrong = map_segment(check->board_fd, KNIT_SEGMENT_BOARD, &head, &check->board_map);
    char sentence[KNIT_INSPECT_SENTENCE_BYTES];

    if (wrong != NULL) {
        (void)snprintf(sentence, sizeof(sentence), "has a board that is of no use: %s", wrong);
        return refuse(check, KNIT_TOOL_DISCONNECTED, sentence);
    }
    check->lanes = head.geometry.lanes;
    knit_layout_board(check->lanes, check->board_map.base, &check->board);
    for (size_t i = 0; i < check->count; i++)
        map_session(check, &check->sessions[i]);
    return KNIT_TOOL_OK;
}

static void fini(struct check *check)
{
    for (size_t i = 0; i < check->count; i++) {
        struct checked_session *session = &check->sessions[i];

        for (int j = 0; j < 2; j++) {
            if (session->fds[j] >= 0)
                (void)close(session->fds[j]);
        }
        knit_segment_unmap(&session->request);
        knit_segment_unmap(&session->reply);
        fini_findings(&session->findings);
    }
    knit_segment_unmap(&check->board_map);
    if (check->board_fd >= 0)
        (void)close(check->board_fd);
    fini_findings(&check->findings);
    free(check);
}

/* ---- inspecting ---- */

static bool can_be_seen(const struct checked_session *session)
{
    return session->view.request.header != NULL;
}

static void inspect_session(struct checked_session *session)
{
    struct knit_inspect_report report = {add_finding, &session->findings};

    if (can_be_seen(session) &&
        knit_inspect_session(&session->view, &report, &session->counts) != 0)
        add_finding(&session->findings, "not enough memory to look at it");
}

static size_t count_findings(const struct check *check)
{
    size_t count = check->findings.count;

    for (size_t i = 0; i < check->count; i++)
        count += check->sessions[i].findings.count;
    return count;
}

/* NULL: out of memory. Otherwise also for a status other than OK, and for fini(). */
static struct check *inspect_once(const struct knit_tool *tool, int pid, int *ret_status)
{
    struct check *check = calloc(1, sizeof(*check));
    struct knit_inspect_report report;

    if (check == NULL) {
        *ret_status = knit_tool_no_memory(tool);
        return NULL;
    }
    check->tool = tool;
    check->pid = pid;
    check->board_fd = -1;
    *ret_status = gather(check);
    if (*ret_status == KNIT_TOOL_OK)
        *ret_status = map_all(check);
    if (*ret_status != KNIT_TOOL_OK)
        return check;
    report = (struct knit_inspect_report){add_finding, &check->findings};
    (void)knit_inspect_board(&check->board, check->lanes, &report);
    for (size_t i = 0; i < check->count; i++)
        inspect_session(&check->sessions[i]);
    return check;
}

/* Keeps of the second inspection what the first one found as well. */
static void keep_what_both_found(struct check *second, struct check *first)
{
    static const struct findings none;

    keep_common(&second->findings, &first->findings);
    for (size_t i = 0; i < second->count; i++) {
        struct checked_session *session = &second->sessions[i];
        const struct checked_session *before = session_of(first, session->id);

        keep_common(&session->findings, before != NULL ? &before->findings : &none);
    }
}

/* Inspects once, and again if something seems broken. */
static struct check *inspect(const struct knit_tool *tool, int pid, int *ret_status)
{
    struct check *first = inspect_once(tool, pid, ret_status), *second;

    if (first == NULL || *ret_status != KNIT_TOOL_OK || count_findings(first) == 0)
        return first;
    (void)poll(NULL, 0, BETWEEN_MS);
    second = inspect_once(tool, pid, ret_status);
    if (second != NULL && *ret_status == KNIT_TOOL_OK)
        keep_what_both_found(second, first);
    fini(first);
    return second;
}

/* ---- printing ---- */

static const char *state_name(const struct checked_session *session)
{
    switch (session->counts.state) {
    case KNIT_STATE_OPEN:
        return "open";
    case KNIT_STATE_DRAINING:
        return "draining";
    case KNIT_STATE_CLOSED:
        return "closed";
    case KNIT_STATE_EVICTED:
        return "evicted";
    }
    return "in no state";
}

static void print_lanes(const struct check *check)
{
    for (uint32_t i = 0; i < check->lanes; i++) {
        struct knit_inspect_lane now = knit_inspect_lane(&check->board, i);

        if (now.session != 0)
            printf("lane %u is %s: runs task %u for session %llu, slot %u\n", i, now.state,
                now.task, (unsigned long long)now.session, now.slot);
        else
            printf("lane %u is %s\n", i, now.state);
    }
}

static void print_plain(const struct check *check, size_t broken)
{
    printf("process %d: %u lanes, %zu sessions\n", check->pid, check->lanes, check->count);
    print_lanes(check);
    for (size_t i = 0; i < check->findings.count; i++)
        printf("  %s\n", check->findings.sentences[i]);
    for (size_t i = 0; i < check->count; i++) {
        const struct checked_session *session = &check->sessions[i];
        const struct knit_inspect_counts *counts = &session->counts;

        if (can_be_seen(session))
            printf("session %llu is %s: %u queued, %u running, %u results held (%llu bytes), "
                   "%u lanes blocked on their arena\n",
                (unsigned long long)session->id, state_name(session), counts->queued,
                counts->running, counts->held, (unsigned long long)counts->held_bytes,
                counts->blocked_on_arena);
        else
            printf("session %llu%s\n", (unsigned long long)session->id,
                session->is_unsealed ? " is not attached yet" : ":");
        for (size_t j = 0; j < session->findings.count; j++)
            printf("  %s\n", session->findings.sentences[j]);
        if (counts->findings > KNIT_INSPECT_FINDINGS_MAX)
            printf("  and %u more\n", counts->findings - KNIT_INSPECT_FINDINGS_MAX);
    }
    printf(broken == 0 ? "nothing is broken\n" : "%zu things are broken\n", broken);
}

static struct json_object *json_findings(const struct findings *findings)
{
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < findings->count; i++)
        json_object_array_add(array, json_object_new_string(findings->sentences[i]));
    return array;
}

static struct json_object *json_lanes(const struct check *check)
{
    struct json_object *array = json_object_new_array();

    for (uint32_t i = 0; i < check->lanes; i++) {
        struct knit_inspect_lane now = knit_inspect_lane(&check->board, i);
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "state", json_object_new_string(now.state));
        if (now.session != 0) {
            json_object_object_add(object, "session", json_object_new_uint64(now.session));
            json_object_object_add(object, "slot", json_object_new_int64(now.slot));
            json_object_object_add(object, "task", json_object_new_int64(now.task));
        }
        json_object_array_add(array, object);
    }
    return array;
}

static void print_json(const struct check *check)
{
    struct json_object *all = json_object_new_object(), *sessions = json_object_new_array();

    json_object_object_add(all, "pid", json_object_new_int(check->pid));
    json_object_object_add(all, "lanes", json_lanes(check));
    json_object_object_add(all, "findings", json_findings(&check->findings));
    for (size_t i = 0; i < check->count; i++) {
        const struct checked_session *session = &check->sessions[i];
        const struct knit_inspect_counts *counts = &session->counts;
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "id", json_object_new_uint64(session->id));
        if (can_be_seen(session)) {
            json_object_object_add(object, "state", json_object_new_string(state_name(session)));
            json_object_object_add(object, "queued", json_object_new_int64(counts->queued));
            json_object_object_add(object, "running", json_object_new_int64(counts->running));
            json_object_object_add(object, "held", json_object_new_int64(counts->held));
            json_object_object_add(
                object, "held_bytes", json_object_new_uint64(counts->held_bytes));
            json_object_object_add(
                object, "blocked_on_arena", json_object_new_int64(counts->blocked_on_arena));
        } else if (session->is_unsealed) {
            json_object_object_add(object, "state", json_object_new_string("not attached yet"));
        }
        json_object_object_add(object, "findings", json_findings(&session->findings));
        json_object_array_add(sessions, object);
    }
    json_object_object_add(all, "sessions", sessions);
    knit_tool_put_object(all);
    json_object_put(all);
}

int knit_tool_check(const struct knit_tool *tool, int argc, char **argv)
{
    struct check *check;
    char *end = NULL;
    long pid = argc == 1 ? strtol(argv[0], &end, 10) : 0;
    size_t broken = 0;
    int status;

    if (argc != 1 || end == argv[0] || *end != '\0' || pid <= 0 || pid > INT32_MAX)
        return knit_tool_usage(tool, "check takes the process id of a daemon");
    check = inspect(tool, (int)pid, &status);
    if (check != NULL && status == KNIT_TOOL_OK) {
        broken = count_findings(check);
        if (tool->is_json)
            print_json(check);
        else
            print_plain(check, broken);
        status = knit_tool_finish(tool);
    }
    if (check != NULL)
        fini(check);
    return status == KNIT_TOOL_OK && broken != 0 ? KNIT_TOOL_FAILED : status;
}
