/* SPDX-License-Identifier: Apache-2.0 */
/* A connection reads a head, writes an answer, and then waits for its peer to close: closing first
 * would reset the connection if bytes came behind the head, and the peer might lose the answer.
 * What a peer sent before it was accepted is read at once: of a flood most have sent all by then.
 *
 * Each piece of work is counted (budget.h). In a pause no descriptor is looked at, neither those of
 * connections nor the one that accepts, so it costs nothing, whatever comes; only who takes too
 * long ends.
 *
 * Descriptors that a local caller sends are not received, as in server/net/transport.c: a look at
 * the bytes tells that some came with them, and the connection ends.
 */
#include "server/admin/face.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/host/pool.h"
#include "fastpath/host/runs.h"
#include "fastpath/lane/bell.h"
#include "proto/tasks.h"
#include "server/admin/http.h"
#include "server/admin/json.h"
#include "server/admin/page.h"
#include "server/admin/text.h"

enum {
    OK = 200,
    FRESH_NS = 250000000,
    BODY_MAX_BYTES = 64 * 1024 * 1024,
    TASK_MAX_BYTES = 1024 * 1024,
    CALLS = 0, /* place of its page */
    HEAD_MAX_BYTES = 1024,
    UNSEEN_NS = 5000, /* of a piece of work: to wake for it, and to accept */
};

static const struct timeval step_time = {5, 0}, wait_time = {1, 0}, end_time = {1, 0};

/* Shared by all connections that it is sent to. */
struct knit_face_body {
    uint32_t users;
    uint64_t made_ns;
    struct knit_buffer text;
};

/* In the order in which they make way. */
enum state {
    ENDING, /* it has its answer */
    READING,
    WAITING, /* until the loops have listed their calls, or for a second */
    WRITING,
};

struct knit_face_connection {
    TAILQ_ENTRY(knit_face_connection) link;
    struct knit_face *face;
    int fd;
    enum state state;
    struct event read_event, write_event, timer;
    short set_aside; /* in a pause: the events that it waits for */
    uint8_t input[KNIT_HTTP_HEAD_MAX];
    size_t input_len;
    char head[HEAD_MAX_BYTES];
    size_t head_len, sent; /* of head and body together */
    size_t place;          /* of its page */
    struct knit_face_body *body;
    bool is_head; /* it gets the head of the answer alone */
};

static void answer_calls(struct knit_face *face);

/* ---- the budget ---------------------------------------------------------------------------- */

static uint64_t processor_ns(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void set_aside(struct knit_face_connection *connection)
{
    connection->set_aside = (short)(event_pending(&connection->read_event, EV_READ, NULL) |
                                    event_pending(&connection->write_event, EV_WRITE, NULL));
    (void)event_del(&connection->read_event);
    (void)event_del(&connection->write_event);
}

/* What cannot be waited for ends by its timer. */
static void take_up(struct knit_face_connection *connection)
{
    if ((connection->set_aside & EV_READ) != 0)
        (void)event_add(&connection->read_event, NULL);
    if ((connection->set_aside & EV_WRITE) != 0)
        (void)event_add(&connection->write_event, NULL);
    connection->set_aside = 0;
}

/* If its end cannot be waited for there is none: that is better than no face. */
static bool wait_for_budget(struct knit_face *face, uint64_t ns)
{
    const struct timeval span = {
        (time_t)(ns / 1000000000), (suseconds_t)(ns % 1000000000 / 1000 + 1)};

    return event_add(&face->resume_event, &span) == 0;
}

static void pause_for(struct knit_face *face, uint64_t ns)
{
    struct knit_face_connection *connection;

    if (!wait_for_budget(face, ns) || face->is_paused)
        return;
    face->is_paused = true;
    knit_counter_add(&face->sources.counters->pauses, 1);
    face->sources.set_accepting(face->sources.arg, false);
    TAILQ_FOREACH(connection, &face->connections, link)
    {
        set_aside(connection);
    }
}

static void count_work(struct knit_face *face, uint64_t began_ns)
{
    uint64_t work_ns = processor_ns() - began_ns + UNSEEN_NS;
    uint64_t pause_ns = knit_budget_spend(&face->budget, knit_clock_ns(), work_ns);

    knit_counter_add(&face->sources.counters->busy_ns, work_ns);
    if (pause_ns != 0)
        pause_for(face, pause_ns);
}

static void on_resume(evutil_socket_t fd, short events, void *arg)
{
    struct knit_face *face = arg;
    uint64_t began_ns = processor_ns();
    uint64_t left_ns = knit_budget_spend(&face->budget, knit_clock_ns(), 0);
    struct knit_face_connection *connection;

    (void)fd, (void)events;
    if (left_ns != 0 && wait_for_budget(face, left_ns))
        return;
    face->is_paused = false;
    TAILQ_FOREACH(connection, &face->connections, link)
    {
        take_up(connection);
    }
    face->sources.set_accepting(face->sources.arg, true);
    if (face->is_listed)
        answer_calls(face);
    count_work(face, began_ns);
}

/* ---- bodies -------------------------------------------------------------------------------- */

static struct knit_face_body *new_body(void)
{
    struct knit_face_body *body = calloc(1, sizeof(*body));

    if (body != NULL) {
        body->users = 1;
        body->made_ns = knit_clock_ns();
        knit_buffer_init(&body->text, BODY_MAX_BYTES);
    }
    return body;
}

static void leave(struct knit_face_body *body)
{
    if (body == NULL || --body->users > 0)
        return;
    knit_buffer_fini(&body->text);
    free(body);
}

static int put_stats(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_buffer value;
    struct knit_stats stats;
    int r;

    knit_stats_collect(face->sources.stats, &stats);
    knit_buffer_init(&value, BODY_MAX_BYTES);
    r = knit_stats_put(&value, &stats);
    if (r == 0)
        r = knit_json_put(text, knit_buffer_span(&value));
    knit_buffer_fini(&value);
    return r;
}

static int put_metrics(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_metrics_main more = {.turned_away = 0};
    struct knit_stats stats;

    knit_stats_collect(face->sources.stats, &stats);
    face->sources.collect(face->sources.arg, &more);
    return knit_metrics_put(text, &stats, &more, face->sources.stats->pool);
}

static void put_buckets(
    const char *key, const struct knit_host_times *times, struct knit_buffer *text)
{
    knit_text_put(text, ",\"%s\":[", key);
    for (uint32_t i = 0; i < KNIT_RUN_BUCKETS; i++)
        knit_text_put(text, "%s%" PRIu64, i > 0 ? "," : "", times->bucket[i]);
    knit_text_put(text, "]");
}

static void put_runs(
    struct knit_host *pool, uint32_t row, const char *task, struct knit_buffer *text)
{
    struct knit_host_runs runs;

    knit_host_runs(pool, row, &runs);
    knit_text_put(text, row == 0 ? "{\"task\":" : ",{\"task\":");
    knit_json_put_text(text, knit_span_text(task));
    knit_text_put(text,
        ",\"results\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"deferred\":%" PRIu64
        ",\"refused\":%" PRIu64 ",\"run_us\":%" PRIu64,
        runs.outcome[KNIT_RUN_RESULT], runs.outcome[KNIT_RUN_ERROR],
        runs.outcome[KNIT_RUN_DEFERRED], runs.outcome[KNIT_RUN_REFUSED], runs.run.sum_ns / 1000);
    put_buckets("run_buckets", &runs.run, text);
    put_buckets("wait_buckets", &runs.wait, text);
    knit_text_put(text, "}");
}

/* {tasks: [as in `$/tasks`], runs: [{task, results, errors, deferred, refused, run_us, run_buckets,
 * wait_buckets}]}, of the first tasks and of all others together, as fastpath/lane/runs.h counts
 * them; waits are those in lanes. */
static int put_tasks(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_host *pool = face->sources.stats->pool;
    const struct knit_registry *registry = knit_host_registry(pool);
    struct knit_buffer value;
    int r = 0;

    knit_buffer_init(&value, TASK_MAX_BYTES);
    (void)knit_buffer_append(text, "{\"tasks\":[", 10);
    for (uint32_t i = 0; r == 0 && i < knit_registry_count(registry); i++) {
        struct knit_task_entry entry;

        knit_host_describe_task(pool, knit_registry_at(registry, i), &entry);
        knit_buffer_reset(&value);
        r = knit_tasks_page_put_entry(&value, &entry);
        if (i > 0)
            (void)knit_buffer_append(text, ",", 1);
        if (r == 0)
            r = knit_json_put(text, knit_buffer_span(&value));
    }
    (void)knit_buffer_append(text, "],\"runs\":[", 10);
    for (uint32_t i = 0; i < knit_registry_count(registry) && i < KNIT_RUN_TASKS; i++)
        put_runs(pool, i, knit_registry_at(registry, i)->name, text);
    if (knit_registry_count(registry) > KNIT_RUN_TASKS)
        put_runs(pool, KNIT_RUN_TASKS, "other", text);
    (void)knit_buffer_append(text, "]}", 2);
    knit_buffer_fini(&value);
    return r != 0 ? r : text->error;
}

static int put_page_of_tables(struct knit_face *face, struct knit_buffer *text)
{
    struct knit_stats stats;

    knit_stats_collect(face->sources.stats, &stats);
    return knit_page_put(text, &stats, face->sources.stats->pool);
}

static int put_calls(struct knit_face *face, struct knit_buffer *text)
{
    return face->sources.put_calls(face->sources.arg, text);
}

/* ---- pages --------------------------------------------------------------------------------- */

static const char *why_not_ready(const struct knit_face *face)
{
    struct knit_host_stats stats;

    if (face->is_draining)
        return "draining";
    knit_host_stats(face->sources.stats->pool, &stats);
    return stats.lanes_serving > 0 ? NULL : "no worker serves";
}

static const char *always_alive(const struct knit_face *face)
{
    (void)face;
    return NULL;
}

static const struct page {
    const char *path, *type;
    int (*put)(struct knit_face *face, struct knit_buffer *text);
    const char *(*why_not)(const struct knit_face *face); /* of a probe, which has no put */
    const char *policy; /* of what a browser may do with it; NULL: nothing */
} pages[] = {
    [CALLS] = {"/calls", "application/json", put_calls, NULL, NULL},
    {"/", "text/html; charset=utf-8", put_page_of_tables, NULL, knit_page_policy},
    {"/livez", "text/plain; charset=utf-8", NULL, always_alive, NULL},
    {"/readyz", "text/plain; charset=utf-8", NULL, why_not_ready, NULL},
    {"/stats", "application/json", put_stats, NULL, NULL},
    {"/tasks", "application/json", put_tasks, NULL, NULL},
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", put_metrics, NULL, NULL},
};
_Static_assert(sizeof(pages) / sizeof(pages[0]) <= KNIT_FACE_PAGES_MAX, "each has a place");

static bool is_fresh(const struct knit_face *face, size_t place)
{
    const struct knit_face_body *made = face->bodies[place];

    return made != NULL && knit_clock_ns() - made->made_ns < FRESH_NS;
}

static void drop(struct knit_face *face, size_t place)
{
    leave(face->bodies[place]);
    face->bodies[place] = NULL;
}

/* As it was made a moment ago, or anew. NULL: there is no memory. */
static struct knit_face_body *body_of(struct knit_face *face, size_t place)
{
    if (is_fresh(face, place))
        return face->bodies[place];
    drop(face, place);
    face->bodies[place] = new_body();
    if (face->bodies[place] != NULL && pages[place].put(face, &face->bodies[place]->text) != 0)
        drop(face, place);
    return face->bodies[place];
}

/* ---- answers ------------------------------------------------------------------------------- */

static void put_head(struct knit_face_connection *connection, int status, const char *type,
    const char *policy, size_t len)
{
    int n = snprintf(connection->head, sizeof(connection->head),
        "HTTP/1.1 %d %s\r\n"
        "Content-Type: %s\r\n"
        "Content-Length: %zu\r\n"
        "%s"
        "Connection: close\r\n"
        "Cache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        "Cross-Origin-Resource-Policy: same-origin\r\n"
        "Referrer-Policy: no-referrer\r\n"
        "Content-Security-Policy: %s\r\n"
        "\r\n",
        status, knit_http_reason(status), type, len,
        status == KNIT_HTTP_METHOD_NOT_ALLOWED ? "Allow: GET, HEAD\r\n" : "",
        policy != NULL ? policy : "default-src 'none'; frame-ancestors 'none'");

    connection->head_len = (size_t)n;
}

/* One line, which stands behind the head. */
static void put_line(struct knit_face_connection *connection, int status, const char *word)
{
    put_head(connection, status, "text/plain; charset=utf-8", NULL, strlen(word) + 1);
    if (!connection->is_head)
        connection->head_len += (size_t)snprintf(connection->head + connection->head_len,
            sizeof(connection->head) - connection->head_len, "%s\n", word);
}

static void put_page(struct knit_face_connection *connection)
{
    const struct page *page = &pages[connection->place];
    const char *why_not;

    if (page->put == NULL) {
        why_not = page->why_not(connection->face);
        put_line(connection, why_not == NULL ? OK : KNIT_HTTP_UNAVAILABLE,
            why_not == NULL ? "ok" : why_not);
        return;
    }
    connection->body = body_of(connection->face, connection->place);
    if (connection->body == NULL) {
        put_line(connection, KNIT_HTTP_UNAVAILABLE, "out of memory");
        return;
    }
    connection->body->users++;
    put_head(connection, OK, page->type, page->policy, connection->body->text.len);
}

static void end(struct knit_face_connection *connection)
{
    struct knit_face *face = connection->face;

    TAILQ_REMOVE(&face->connections, connection, link);
    face->count--;
    (void)event_del(&connection->read_event);
    (void)event_del(&connection->write_event);
    (void)event_del(&connection->timer);
    leave(connection->body);
    face->sources.close(face->sources.arg, connection->fd);
    free(connection);
}

/* All has been sent: what else comes is not looked at. */
static void finish(struct knit_face_connection *connection)
{
    connection->state = ENDING;
    if (shutdown(connection->fd, SHUT_WR) < 0 || event_add(&connection->timer, &end_time) < 0)
        end(connection);
}

static void write_on(struct knit_face_connection *connection)
{
    const struct knit_face_body *body = connection->body;
    size_t head_left =
        connection->sent < connection->head_len ? connection->head_len - connection->sent : 0;
    bool sends_body = body != NULL && !connection->is_head;
    size_t body_len = sends_body ? body->text.len : 0;
    size_t body_sent = connection->sent - (connection->head_len - head_left);
    struct iovec parts[2] = {{connection->head + connection->head_len - head_left, head_left},
        {sends_body ? body->text.bytes + body_sent : NULL, body_len - body_sent}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = sends_body ? 2 : 1};
    ssize_t n = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        end(connection);
        return;
    }
    connection->sent += n > 0 ? (size_t)n : 0;
    if (connection->sent == connection->head_len + body_len)
        finish(connection);
    else if (event_add(&connection->write_event, NULL) < 0)
        end(connection);
}

static void begin_answer(struct knit_face_connection *connection, int status)
{
    connection->state = WRITING;
    if (status == OK)
        put_page(connection);
    else
        put_line(connection, status, knit_http_reason(status));
    if (event_add(&connection->timer, &step_time) < 0)
        end(connection);
    else
        write_on(connection);
}

static void wait_for_calls(struct knit_face_connection *connection)
{
    struct knit_face *face = connection->face;

    connection->state = WAITING;
    if (event_add(&connection->timer, &wait_time) < 0) {
        end(connection);
        return;
    }
    if (face->asks)
        return;
    face->asks = true;
    if (!face->sources.ask_calls(face->sources.arg))
        answer_calls(face);
}

static void answer_calls(struct knit_face *face)
{
    struct knit_face_connection *connection = TAILQ_FIRST(&face->connections), *next;

    face->asks = face->is_listed = false;
    drop(face, CALLS);
    for (; connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, link);
        if (connection->state == WAITING)
            begin_answer(connection, OK);
    }
}

/* Now, or when a pause is over. */
static void note_listed(struct knit_face *face)
{
    face->is_listed = true;
    if (!face->is_paused)
        answer_calls(face);
}

void knit_face_answer_calls(struct knit_face *face)
{
    uint64_t began_ns = processor_ns();

    note_listed(face);
    count_work(face, began_ns);
}

static int look_up(struct knit_face_connection *connection, const struct knit_http_request *request)
{
    connection->is_head = request->is_head;
    if (request->host.bytes != NULL &&
        !knit_http_host_is_known(request->host, connection->face->sources.hosts))
        return KNIT_HTTP_MISDIRECTED;
    if (request->is_cross_site)
        return KNIT_HTTP_FORBIDDEN;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        connection->place = i;
        if (knit_span_is(request->path, pages[i].path))
            return OK;
    }
    return KNIT_HTTP_NOT_FOUND;
}

static void answer(struct knit_face_connection *connection)
{
    struct knit_http_request request;
    int status = knit_http_parse(connection->input, connection->input_len, &request);

    if (status == KNIT_HTTP_E_SHORT)
        return;
    knit_counter_add(&connection->face->sources.counters->requests, 1);
    if (status == 0)
        status = look_up(connection, &request);
    if (status == OK && connection->place == CALLS && !is_fresh(connection->face, CALLS))
        wait_for_calls(connection);
    else
        begin_answer(connection, status);
}

/* ---- connections --------------------------------------------------------------------------- */

/* Bytes, without descriptors. 0: the connection is to end. -EAGAIN: there are none. */
static ssize_t receive(int fd, void *room, size_t size)
{
    struct iovec part = {room, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

    if (n > 0 && (message.msg_flags & MSG_CTRUNC) != 0)
        return 0;
    if (n > 0)
        n = recv(fd, room, (size_t)n, MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return 0;
    return n < 0 ? -EAGAIN : n;
}

static void read_on(struct knit_face_connection *connection)
{
    uint8_t dropped[4096];
    ssize_t n;

    if (connection->state != READING) {
        n = receive(connection->fd, dropped, sizeof(dropped));
        /* One that sends no more may read still. */
        if (n == 0 && connection->state != ENDING)
            (void)event_del(&connection->read_event);
        else if (n == 0)
            end(connection);
        return;
    }
    n = receive(connection->fd, connection->input + connection->input_len,
        sizeof(connection->input) - connection->input_len);
    if (n == 0) {
        end(connection);
    } else if (n > 0) {
        connection->input_len += (size_t)n;
        answer(connection);
    }
}

static void on_ready(evutil_socket_t fd, short events, void *arg)
{
    struct knit_face_connection *connection = arg;
    struct knit_face *face = connection->face;
    uint64_t began_ns = processor_ns();

    (void)fd;
    if ((events & EV_READ) != 0)
        read_on(connection);
    else
        write_on(connection);
    count_work(face, began_ns);
}

static void on_time(evutil_socket_t fd, short events, void *arg)
{
    struct knit_face_connection *connection = arg;
    struct knit_face *face = connection->face;
    uint64_t began_ns = processor_ns();

    (void)fd, (void)events;
    /* A loop that does not answer in time is left out. */
    if (connection->state == WAITING)
        note_listed(face);
    else
        end(connection);
    count_work(face, began_ns);
}

/* The one that loses least, of these the eldest: so a probe has a place beside any number that are
 * silent, or do not read. */
static void make_way(struct knit_face *face)
{
    struct knit_face_connection *connection, *least = TAILQ_FIRST(&face->connections);

    TAILQ_FOREACH(connection, &face->connections, link)
    {
        if (connection->state < least->state)
            least = connection;
    }
    end(least);
}

static void take(struct knit_face *face, int fd)
{
    struct knit_face_connection *connection;

    if (face->count == KNIT_FACE_CONNECTIONS_MAX)
        make_way(face);
    connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        face->sources.close(face->sources.arg, fd);
        return;
    }
    connection->face = face;
    connection->fd = fd;
    connection->state = READING;
    TAILQ_INSERT_TAIL(&face->connections, connection, link);
    face->count++;
    (void)event_assign(
        &connection->read_event, face->base, fd, EV_READ | EV_PERSIST, on_ready, connection);
    (void)event_assign(&connection->write_event, face->base, fd, EV_WRITE, on_ready, connection);
    (void)evtimer_assign(&connection->timer, face->base, on_time, connection);
    if (event_add(&connection->read_event, NULL) < 0 ||
        event_add(&connection->timer, &step_time) < 0)
        end(connection);
    else
        read_on(connection);
}

void knit_face_take(struct knit_face *face, int fd)
{
    uint64_t began_ns = processor_ns();

    take(face, fd);
    count_work(face, began_ns);
}

void knit_face_init(
    struct knit_face *face, struct event_base *base, const struct knit_face_sources *sources)
{
    *face = (struct knit_face){.base = base, .sources = *sources};
    TAILQ_INIT(&face->connections);
    (void)evtimer_assign(&face->resume_event, base, on_resume, face);
}

void knit_face_fini(struct knit_face *face)
{
    struct knit_face_connection *connection;

    if (face->base == NULL)
        return;
    while ((connection = TAILQ_FIRST(&face->connections)) != NULL)
        end(connection);
    (void)event_del(&face->resume_event);
    for (size_t i = 0; i < KNIT_FACE_PAGES_MAX; i++)
        leave(face->bodies[i]);
    face->base = NULL;
}
