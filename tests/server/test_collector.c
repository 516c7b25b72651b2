/* SPDX-License-Identifier: Apache-2.0 */
/* One request and what comes back: each answer is judged as OTLP has it, and a collector that
 * answers early, never to the end, something else or nothing costs no more time than it is given.
 */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/report/collector.h"
#include "tests/support/deadline.h"

/* More than sockets hold. */
enum { LARGE = 16 << 20, SOON_MS = 10000, PATIENCE_MS = 60000 };

/* A collector that answers one request, on a thread. */
struct fake {
    int listener;
    const char *answer;
    bool is_early; /* it reads the first byte alone */
    bool is_endless;
    bool holds; /* it does not close before its peer, or the test */
    int over_fd;
    pthread_t thread;
    struct knit_collector_url url;
    char *got; /* all that it read */
    size_t got_len;
};

static const struct knit_span small[3] = {
    {(const uint8_t *)"{\"a\":", 5}, {(const uint8_t *)"[1,2]", 5}, {(const uint8_t *)"}", 1}};

static bool is_whole(const struct fake *fake)
{
    const char *body = strstr(fake->got, "\r\n\r\n"),
               *field = strstr(fake->got, "Content-Length: ");

    return body != NULL && field != NULL &&
           fake->got_len - (size_t)(body + 4 - fake->got) >=
               strtoul(field + strlen("Content-Length: "), NULL, 10);
}

static void read_request(struct fake *fake, int fd)
{
    ssize_t n = 1;

    while (n > 0 && !is_whole(fake)) {
        fake->got = realloc(fake->got, fake->got_len + (1 << 16));
        n = recv(fd, fake->got + fake->got_len, fake->is_early ? 1 : (1 << 16) - 1, 0);
        fake->got_len += n > 0 ? (size_t)n : 0;
        fake->got[fake->got_len] = '\0';
        if (fake->is_early)
            return;
    }
}

static void *serve(void *arg)
{
    struct fake *fake = arg;
    int fd = accept(fake->listener, NULL, NULL);
    struct pollfd fds[2] = {{fd, POLLRDHUP, 0}, {fake->over_fd, POLLIN, 0}};
    ssize_t n = 0;

    if (fd < 0)
        return NULL;
    read_request(fake, fd);
    if (fake->answer[0] != '\0')
        n = send(fd, fake->answer, strlen(fake->answer), MSG_NOSIGNAL);
    while (fake->is_endless && n >= 0)
        n = send(fd, "X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", 43, MSG_NOSIGNAL);
    if (fake->holds)
        (void)poll(fds, 2, PATIENCE_MS);
    (void)close(fd);
    return NULL;
}

static void begin(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    struct knit_sentence why;
    char text[64];

    fake->got = calloc(1, 1);
    fake->over_fd = eventfd(0, EFD_CLOEXEC);
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fake->listener, 1), 0);
    assert_int_equal(getsockname(fake->listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(text, sizeof(text), "http://127.0.0.1:%u/in?x", ntohs(address.sin_port));
    assert_int_equal(knit_collector_url_parse("test", text, &fake->url, &why), 0);
    assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
}

static void end(struct fake *fake)
{
    const uint64_t one = 1;

    assert_int_equal(write(fake->over_fd, &one, sizeof(one)), sizeof(one));
    (void)shutdown(fake->listener, SHUT_RDWR);
    (void)pthread_join(fake->thread, NULL);
    (void)close(fake->listener);
    (void)close(fake->over_fd);
    free(fake->got);
}

static enum knit_collector_result ask(const struct fake *fake, const struct knit_span parts[3],
    uint64_t ms, struct knit_collector_answer *ret_answer)
{
    struct knit_collector_post post = {.url = &fake->url,
        .parts = {parts[0], parts[1], parts[2]},
        .deadline_ns = knit_deadline_now_ns() + ms * UINT64_C(1000000),
        .end_fd = -1};

    return knit_collector_ask(&post, ret_answer);
}

/* ---- answers ------------------------------------------------------------------------------- */

#define TAKEN   KNIT_COLLECTOR_TAKEN
#define LATER   KNIT_COLLECTOR_LATER
#define REFUSED KNIT_COLLECTOR_REFUSED

static const struct {
    const char *answer;
    enum knit_collector_result result;
    int status;
    uint32_t retry_after_s;
    const char *reason;
} answers[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", TAKEN, 200, 0, "it answered 200"},
    {"HTTP/1.1 200 OK\r\n\r\n", TAKEN, 200, 0, "it answered 200"},
    {"HTTP/1.0 202 Accepted\r\n\r\n", TAKEN, 202, 0, "it answered 202"},
    {"HTTP/1.1 204 No Content\r\n\r\n", TAKEN, 204, 0, "it answered 204"},
    {"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n", LATER, 429, 7, "it answered 429"},
    {"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", LATER, 429, 0, "it answered 429"},
    {"HTTP/1.1 503 Busy\r\nretry-after:\t12 \r\n\r\n", LATER, 503, 12, "it answered 503"},
    {"HTTP/1.1 503 Busy\r\nRETRY-AFTER:0\r\n\r\n", LATER, 503, 0, "it answered 503"},
    {"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n", LATER, 503, 0,
        "it answered 503"},
    {"HTTP/1.1 503 Busy\r\nRetry-After: -5\r\n\r\n", LATER, 503, 0, "it answered 503"},
    {"HTTP/1.1 503 Busy\r\nRetry-After: 99999999999999999999\r\n\r\n", LATER, 503, 0,
        "it answered 503"},
    {"HTTP/1.1 503 Busy\r\nX-Retry-After: 5\r\n\r\n", LATER, 503, 0, "it answered 503"},
    {"HTTP/1.1 503 Busy\r\n\r\nthe body:\r\nRetry-After: 5\r\n\r\n", LATER, 503, 0,
        "it answered 503"},
    {"HTTP/1.1 502 Bad Gateway\r\n\r\n", LATER, 502, 0, "it answered 502"},
    {"HTTP/1.1 504 Timeout\r\n\r\n", LATER, 504, 0, "it answered 504"},
    {"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", REFUSED, 301, 0, "it answered 301"},
    {"HTTP/1.1 400 Bad Request\r\n\r\n", REFUSED, 400, 0, "it answered 400"},
    {"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", REFUSED, 413, 0, "it answered 413"},
    {"HTTP/1.1 500 Oops\r\n\r\n", REFUSED, 500, 0, "it answered 500"},
    {"HTTP/1.1 501 What\r\n\r\n", REFUSED, 501, 0, "it answered 501"},
    {"HTTP/1.1 505 Version\r\n\r\n", REFUSED, 505, 0, "it answered 505"},
    {"HTTP/1.1 199 ?\r\n\r\n", LATER, 0, 0, "no answer: what came is none by HTTP/1"},
    {"HTTP/1.1 600 ?\r\n\r\n", LATER, 0, 0, "no answer: what came is none by HTTP/1"},
    {"HTTP/1.1 -20 ?\r\n\r\n", LATER, 0, 0, "no answer: what came is none by HTTP/1"},
    {"HTTP/2 200 OK\r\n\r\n", LATER, 0, 0, "no answer: what came is none by HTTP/1"},
    {"SSH-2.0-x\r\n", LATER, 0, 0, "no answer: what came is none by HTTP/1"},
    {"", LATER, 0, 0, "no answer: the connection was lost, or it took too long"},
};

static void an_answer_is_judged_by_its_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct fake fake = {.answer = answers[i].answer};
        struct knit_collector_answer answer;

        begin(&fake);
        assert_int_equal(ask(&fake, small, PATIENCE_MS, &answer), answers[i].result);
        assert_int_equal(answer.status, answers[i].status);
        assert_int_equal(answer.retry_after_s, answers[i].retry_after_s);
        assert_string_equal(answer.reason, answers[i].reason);
        end(&fake);
    }
}

static void a_request_is_a_post_of_the_parts(void **state)
{
    struct fake fake = {.answer = answers[0].answer};
    struct knit_collector_answer answer;
    char expected[512];

    (void)state;
    begin(&fake);
    assert_int_equal(ask(&fake, small, PATIENCE_MS, &answer), TAKEN);
    (void)snprintf(expected, sizeof(expected),
        "POST /in?x HTTP/1.1\r\nHost: %s\r\nUser-Agent: knittingd\r\nContent-Type: "
        "application/json\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"a\":[1,2]}",
        fake.url.authority);
    assert_string_equal(fake.got, expected);
    end(&fake);
}

static void one_that_is_not_there_is_asked_later(void **state)
{
    struct fake fake = {.answer = ""};
    struct knit_collector_answer answer;

    (void)state;
    begin(&fake);
    end(&fake);
    assert_int_equal(ask(&fake, small, PATIENCE_MS, &answer), LATER);
    assert_int_equal(answer.status, 0);
    assert_string_equal(answer.reason, "cannot connect: Connection refused");
}

/* ---- those that end early, or never -------------------------------------------------------- */

/* All of a large request. */
static enum knit_collector_result ask_much(
    const struct fake *fake, uint64_t ms, struct knit_collector_answer *ret_answer)
{
    uint8_t *body = malloc(LARGE);
    const struct knit_span parts[3] = {small[0], {body, LARGE}, small[2]};
    enum knit_collector_result result;

    assert_non_null(body);
    memset(body, 'x', LARGE);
    result = ask(fake, parts, ms, ret_answer);
    free(body);
    return result;
}

static void one_that_reads_slowly_gets_all(void **state)
{
    struct fake fake = {.answer = answers[0].answer};
    struct knit_collector_answer answer;

    (void)state;
    begin(&fake);
    assert_int_equal(ask_much(&fake, PATIENCE_MS, &answer), TAKEN);
    assert_int_equal(fake.got[fake.got_len - 1], '}');
    assert_true(fake.got_len > LARGE);
    end(&fake);
}

/* It answers before it has read all, and then closes, or is mute. */
static void an_answer_that_comes_early_is_heard(void **state)
{
    static const struct {
        const char *answer;
        enum knit_collector_result result;
        int status;
    } cases[] = {{"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", REFUSED, 413},
        {"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", LATER, 503},
        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", LATER, 0}, {"", LATER, 0}};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        const size_t at = i / 2;
        struct fake fake = {.answer = cases[at].answer, .is_early = true, .holds = i % 2 != 0};
        const uint64_t began_ns = knit_deadline_now_ns();
        struct knit_collector_answer answer;

        if (fake.holds && cases[at].answer[0] == '\0')
            continue;
        begin(&fake);
        assert_int_equal(ask_much(&fake, PATIENCE_MS, &answer), cases[at].result);
        assert_int_equal(answer.status, cases[at].status);
        assert_int_equal(answer.retry_after_s, cases[at].status == 503 ? 3 : 0);
        assert_true(knit_deadline_now_ns() - began_ns <
                    knit_deadline_stretched_ns(SOON_MS * UINT64_C(1000000)));
        end(&fake);
    }
}

static void an_answer_without_an_end_has_one(void **state)
{
    static const struct {
        const char *answer;
        bool is_endless;
        int status;
    } cases[] = {{"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n\r\n", true, 503},
        {"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 9\r\n\r\n", false, 503},
        {"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nX: ", true, 503}, {"\r\n\r\n", true, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake fake = {
            .answer = cases[i].answer, .is_endless = cases[i].is_endless, .holds = true};
        const uint64_t began_ns = knit_deadline_now_ns();
        struct knit_collector_answer answer;

        begin(&fake);
        assert_int_equal(ask(&fake, small, PATIENCE_MS, &answer), LATER);
        assert_int_equal(answer.status, cases[i].status);
        assert_int_equal(answer.retry_after_s, cases[i].status == 503 ? 3 : 0);
        assert_true(knit_deadline_now_ns() - began_ns <
                    knit_deadline_stretched_ns(SOON_MS * UINT64_C(1000000)));
        end(&fake);
    }
}

static void the_deadline_is_of_all_together(void **state)
{
    static const char *const beginnings[] = {"", "HTTP/1.1 200", "HTTP/1.1 503 Busy\r\nX: y"};
    static const int statuses[] = {0, 200, 503};

    (void)state;
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        struct fake fake = {.answer = beginnings[i], .holds = true};
        const uint64_t began_ns = knit_deadline_now_ns();
        struct knit_collector_answer answer;

        begin(&fake);
        (void)ask(&fake, small, 100, &answer);
        assert_int_equal(answer.status, statuses[i]);
        assert_true(knit_deadline_now_ns() - began_ns >= 100000000);
        assert_true(knit_deadline_now_ns() - began_ns <
                    knit_deadline_stretched_ns(SOON_MS * UINT64_C(1000000)));
        end(&fake);
    }
}

static void the_end_of_the_daemon_shortens_it(void **state)
{
    struct fake fake = {.answer = "", .holds = true};
    struct knit_collector_answer answer;
    const uint64_t one = 1, began_ns = knit_deadline_now_ns();
    const int end_fd = eventfd(0, EFD_CLOEXEC);
    struct knit_collector_post post;

    (void)state;
    begin(&fake);
    post = (struct knit_collector_post){.url = &fake.url,
        .parts = {small[0], small[1], small[2]},
        .deadline_ns = began_ns + PATIENCE_MS * UINT64_C(1000000),
        .end_fd = end_fd,
        .end_ms = 50};
    assert_int_equal(write(end_fd, &one, sizeof(one)), sizeof(one));
    assert_int_equal(knit_collector_ask(&post, &answer), LATER);
    assert_true(post.ended_ns >= began_ns);
    assert_true(knit_deadline_now_ns() >= post.ended_ns + 50000000);
    assert_true(knit_deadline_now_ns() - began_ns <
                knit_deadline_stretched_ns(SOON_MS * UINT64_C(1000000)));
    end(&fake);
    (void)close(end_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_is_judged_by_its_status),
        cmocka_unit_test(a_request_is_a_post_of_the_parts),
        cmocka_unit_test(one_that_is_not_there_is_asked_later),
        cmocka_unit_test(one_that_reads_slowly_gets_all),
        cmocka_unit_test(an_answer_that_comes_early_is_heard),
        cmocka_unit_test(an_answer_without_an_end_has_one),
        cmocka_unit_test(the_deadline_is_of_all_together),
        cmocka_unit_test(the_end_of_the_daemon_shortens_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
