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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "server/admin/face_pages.h"
#include "server/admin/http.h"

enum {
    OK = 200,
    HEAD_MAX_BYTES = 1024,
    UNSEEN_NS = 5000, /* of a piece of work: to wake for it, and to accept */
};

static const struct timeval step_time = {5, 0}, wait_time = {1, 0}, end_time = {1, 0};

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
    const struct knit_face_page *page;
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
    const struct knit_face_page *page = connection->page;
    const char *why_not;

    if (page->put == NULL) {
        why_not = page->why_not(connection->face);
        put_line(connection, why_not == NULL ? OK : KNIT_HTTP_UNAVAILABLE,
            why_not == NULL ? "ok" : why_not);
        return;
    }
    connection->body = knit_face_pages_body(connection->face, page);
    if (connection->body == NULL) {
        put_line(connection, KNIT_HTTP_UNAVAILABLE, "out of memory");
        return;
    }
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
    knit_face_pages_leave(connection->body);
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
    knit_face_pages_forget_calls(face);
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
    connection->page = knit_face_pages_find(request->path);
    return connection->page != NULL ? OK : KNIT_HTTP_NOT_FOUND;
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
    if (status == OK && connection->page->lists_calls &&
        !knit_face_pages_is_fresh(connection->face, connection->page))
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
    knit_face_pages_fini(face);
    face->base = NULL;
}
