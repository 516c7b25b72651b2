/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: calls come at the times of a clock, whatever becomes of those before them (R10). Method:
 * one thread sends a call of `sleep(1)` whenever one is due, over the connections by turns, and
 * sleeps until the next is due or an answer comes. A generator that is late says so: what a call
 * took counts from its send() and, beside that, from when it was due. test_overload.py runs it and
 * judges.
 *
 *     open_loop PORT CONNECTIONS CALLS_A_SECOND SECONDS TIMEOUT_MS
 *
 * prints a line of JSON: how many calls had which outcome, by the code of the error. `ok` came
 * within the timeout, `late` did not, and `spent` is a TIMEOUT of what was not begun. Exits with 1
 * when the connection breaks, and when a call has no outcome long after its time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/message.h"
#include "tests/support/deadline.h"

enum { CONNECTIONS_MAX = 64, READ_BYTES = 65536, SECOND_NS = 1000000000, PATIENCE_S = 30 };

enum kind { OK, LATE, SPENT, TIMEOUT, OVERLOADED, OTHER, KINDS };
static const char *const names[KINDS] = {"ok", "late", "spent", "303", "200", "other"};

struct line {
    int fd;
    struct knit_buffer output; /* what the socket had no room for */
    struct knit_buffer input;  /* of a message that is not whole */
    struct knit_scan scan;
};

static struct {
    struct line lines[CONNECTIONS_MAX];
    unsigned connections;
    uint64_t calls, sent, done;
    uint64_t begin_ns, gap_ns, timeout_ns;
    uint64_t *sent_ns; /* of each call; 0: it has its outcome */
    uint64_t counts[KINDS];
    uint32_t *from_send_us, *from_due_us; /* of those that were refused */
    uint32_t *late_us;                    /* of each call: how long after it was due it was sent */
} load;

static void die(const char *what)
{
    fprintf(stderr, "open_loop: %s: %s\n", what, errno != 0 ? strerror(errno) : "wrong");
    exit(1);
}

static uint64_t due_ns(uint64_t call)
{
    return load.begin_ns + call * load.gap_ns;
}

static uint32_t to_us(uint64_t ns)
{
    return (uint32_t)((ns + 500) / 1000);
}

static void dial(struct line *line, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    line->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line->fd < 0 || connect(line->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        die("connect");
    (void)setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    knit_buffer_init(&line->output, SIZE_MAX);
    knit_buffer_init(&line->input, SIZE_MAX);
    knit_scan_init(&line->scan, NULL);
}

/* ---- sending ---- */

static void push(struct line *line)
{
    ssize_t n;

    if (line->output.len == 0)
        return;
    n = send(line->fd, line->output.bytes, line->output.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN)
        die("send");
    if (n > 0) {
        line->output.len -= (size_t)n;
        memmove(line->output.bytes, line->output.bytes + n, line->output.len);
    }
}

static void send_call(uint64_t call)
{
    const struct knit_method method = {.name = knit_span_text("sleep")};
    struct line *line = &load.lines[call % load.connections];
    struct knit_options options = knit_options();

    options.timeout_ns = load.timeout_ns;
    load.sent_ns[call] = knit_deadline_now_ns();
    load.late_us[call] = to_us(load.sent_ns[call] - due_ns(call));
    if (knit_message_put_request(
            &line->output, (uint32_t)call, &method, knit_span("\x91\x01", 2), &options) != 0)
        die("a request");
    push(line);
}

/* ---- outcomes ---- */

static enum kind kind_of(const struct knit_message *message, uint64_t took_ns)
{
    const struct knit_span error = message->error;
    char code[4] = "";

    if (error.bytes == NULL)
        return took_ns <= load.timeout_ns ? OK : LATE;
    if (memmem(error.bytes, error.len, "has waited", 10) != NULL)
        return SPENT;
    /* A str of up to 255 bytes: "CODE NAME sentence". */
    if (error.len >= 5)
        memcpy(code, error.bytes + (error.bytes[0] == 0xd9 ? 2 : 1), 3);
    return strcmp(code, "200") == 0 ? OVERLOADED : strcmp(code, "303") == 0 ? TIMEOUT : OTHER;
}

static void take_message(struct line *line, const uint8_t *bytes, size_t len, uint64_t now_ns)
{
    struct knit_message message;
    const char *reason;
    enum kind kind;
    uint64_t call;

    if (knit_message_parse(bytes, len, &line->scan, &message, &reason) != 0)
        die("a response");
    call = message.msgid;
    if (message.kind != KNIT_MESSAGE_RESPONSE || call >= load.sent || load.sent_ns[call] == 0)
        die("a response that nobody waits for");
    kind = kind_of(&message, now_ns - load.sent_ns[call]);
    if (kind == OVERLOADED) {
        load.from_send_us[load.counts[kind]] = to_us(now_ns - load.sent_ns[call]);
        load.from_due_us[load.counts[kind]] = to_us(now_ns - due_ns(call));
    }
    load.counts[kind]++;
    load.sent_ns[call] = 0;
    load.done++;
}

static void take(struct line *line)
{
    uint8_t *to = knit_buffer_reserve(&line->input, READ_BYTES);
    ssize_t n = to != NULL ? recv(line->fd, to, READ_BYTES, MSG_DONTWAIT) : -1;
    uint64_t now_ns = knit_deadline_now_ns();
    size_t used, fed = line->input.len, begin = 0;

    if (n < 0 && to != NULL && errno == EAGAIN)
        return;
    if (n <= 0)
        die("recv");
    line->input.len += (size_t)n;
    while (fed < line->input.len) {
        int status =
            knit_scan_feed(&line->scan, line->input.bytes + fed, line->input.len - fed, &used);

        fed += used;
        if (status == 0)
            continue;
        if (status != KNIT_SCAN_E_DONE)
            die("a message");
        take_message(line, line->input.bytes + begin, fed - begin, now_ns);
        knit_scan_reset(&line->scan);
        begin = fed;
    }
    line->input.len -= begin;
    memmove(line->input.bytes, line->input.bytes + begin, line->input.len);
}

/* ---- the load ---- */

/* Until answers come, or the next call is due. */
static void sleep_for(int epoll, uint64_t now_ns)
{
    struct epoll_event events[CONNECTIONS_MAX];
    uint64_t until_ns = load.sent < load.calls ? due_ns(load.sent) : now_ns + SECOND_NS;
    uint64_t ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec wait = {(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
    int count = epoll_pwait2(epoll, events, CONNECTIONS_MAX, &wait, NULL);

    for (int i = 0; i < count; i++)
        take(&load.lines[events[i].data.u32]);
}

static void run(int epoll)
{
    uint64_t now_ns = knit_deadline_now_ns(), end_ns;

    load.begin_ns = now_ns;
    end_ns = due_ns(load.calls) + load.timeout_ns + (uint64_t)PATIENCE_S * SECOND_NS;
    while (load.done < load.calls) {
        while (load.sent < load.calls && due_ns(load.sent) <= now_ns)
            send_call(load.sent++);
        for (unsigned i = 0; i < load.connections; i++)
            push(&load.lines[i]);
        sleep_for(epoll, knit_deadline_now_ns());
        now_ns = knit_deadline_now_ns();
        if (now_ns > end_ns) {
            errno = 0;
            die("calls without an outcome");
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

    return (one > other) - (one < other);
}

/* Milliseconds. */
static void print_spread(const char *name, uint32_t *spans_us, uint64_t count)
{
    static const unsigned permille[] = {500, 900, 990, 999};

    qsort(spans_us, count, sizeof(*spans_us), compare);
    printf(", \"%s\": [", name);
    for (size_t i = 0; i < sizeof(permille) / sizeof(permille[0]); i++)
        printf("%.3f, ", count > 0 ? spans_us[count * permille[i] / 1000] / 1e3 : 0);
    printf("%.3f]", count > 0 ? spans_us[count - 1] / 1e3 : 0);
}

static void print(void)
{
    printf("{\"sent\": %llu, \"outcomes\": {", (unsigned long long)load.sent);
    for (unsigned kind = 0; kind < KINDS; kind++)
        printf("%s\"%s\": %llu", kind > 0 ? ", " : "", names[kind],
            (unsigned long long)load.counts[kind]);
    printf("}");
    print_spread("refused_from_send_ms", load.from_send_us, load.counts[OVERLOADED]);
    print_spread("refused_from_due_ms", load.from_due_us, load.counts[OVERLOADED]);
    print_spread("sent_late_ms", load.late_us, load.sent);
    printf("}\n");
}

int main(int argc, char **argv)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (argc != 6 || epoll < 0 || strtoul(argv[2], NULL, 10) - 1 >= CONNECTIONS_MAX)
        die("expected PORT CONNECTIONS CALLS_A_SECOND SECONDS TIMEOUT_MS");
    load.connections = (unsigned)strtoul(argv[2], NULL, 10);
    load.calls = strtoul(argv[3], NULL, 10) * strtoul(argv[4], NULL, 10);
    load.gap_ns = SECOND_NS / strtoul(argv[3], NULL, 10);
    load.timeout_ns = strtoul(argv[5], NULL, 10) * 1000000;
    load.sent_ns = calloc(load.calls, sizeof(*load.sent_ns));
    load.from_send_us = calloc(load.calls, sizeof(uint32_t));
    load.from_due_us = calloc(load.calls, sizeof(uint32_t));
    load.late_us = calloc(load.calls, sizeof(uint32_t));
    if (load.sent_ns == NULL || load.from_send_us == NULL || load.from_due_us == NULL ||
        load.late_us == NULL)
        die("memory");
    for (unsigned i = 0; i < load.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

        dial(&load.lines[i], (uint16_t)strtoul(argv[1], NULL, 10));
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, load.lines[i].fd, &event) != 0)
            die("epoll_ctl");
    }
    /* Of 50 us unless it is said; calls are due every 167. */
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    run(epoll);
    print();
    return 0;
}
