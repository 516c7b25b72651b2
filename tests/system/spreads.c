/* SPDX-License-Identifier: Apache-2.0 */
/* A session with several daemons under load, from one event loop: `spreads URL DEPTH MS TIMEOUT_MS`
 * keeps DEPTH calls of `sleep` with MS in flight. To each line that it reads it says how many calls
 * have ended well, failed though they had certainly not started, and failed otherwise, and the last
 * error; a line "end" has it start none any more, and say so when all have ended.
 *
 * It resolves names itself: each has the addresses that the file KNIT_ADDRESSES lists, of which it
 * is asked all the time. With TLS it trusts the authorities of the file KNIT_CA. KNIT_CONNECT_MS:
 * what the first connection may take. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <knitting/knitting.h>

enum { LOOKUP_MS = 20 };

static struct knit *k;
static struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
static struct knit_error error;
static int64_t nap_ms;
static unsigned long ok, unstarted, failed, in_flight;
static int is_ending;
static char last[256];

/* ---- a resolver, in the place of the C library's ---- */

static int add_address(const char *text, const char *port, struct addrinfo **list)
{
    struct sockaddr_in *address;
    struct addrinfo *one = calloc(1, sizeof(*one) + sizeof(*address));

    if (one == NULL)
        return EAI_MEMORY;
    address = (struct sockaddr_in *)(void *)(one + 1);
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)strtoul(port, NULL, 10));
    if (inet_pton(AF_INET, text, &address->sin_addr) != 1) {
        free(one);
        return EAI_NONAME;
    }
    one->ai_family = AF_INET;
    one->ai_socktype = SOCK_STREAM;
    one->ai_addrlen = sizeof(*address);
    one->ai_addr = (struct sockaddr *)address;
    one->ai_next = *list;
    *list = one;
    return 0;
}

__attribute__((visibility("default"))) int getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret)
{
    const char *path = getenv("KNIT_ADDRESSES");
    char line[64];
    FILE *file;

    *ret = NULL;
    if (add_address(host, port, ret) == 0)
        return 0;
    file = path != NULL && (hints->ai_flags & AI_NUMERICHOST) == 0 ? fopen(path, "re") : NULL;
    if (file == NULL)
        return EAI_NONAME;
    while (fscanf(file, "%63s", line) == 1)
        (void)add_address(line, port, ret);
    (void)fclose(file);
    return *ret != NULL ? 0 : EAI_NONAME;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *list)
{
    struct addrinfo *next;

    for (; list != NULL; list = next) {
        next = list->ai_next;
        free(list);
    }
}

/* ---- calls ---- */

static void start(void);

static void on_done(struct knit_handle *handle, void *user)
{
    (void)user;
    if (knit_await(handle, 0, &error) == KNIT_OK) {
        ok++;
    } else {
        unstarted += error.started == KNIT_STARTED_NO;
        failed += error.started != KNIT_STARTED_NO;
        (void)snprintf(last, sizeof(last), "%s: %.200s", error.name, error.message);
    }
    in_flight--;
    (void)knit_free(handle);
    if (!is_ending)
        start();
}

static void start(void)
{
    struct knit_handle *handle;

    if (knit_start(k, &options, &handle, &error, "sleep", "(int)", nap_ms) != KNIT_OK) {
        printf("cannot start: %s: %s\n", error.name, error.message);
        exit(1);
    }
    in_flight++;
    knit_on_done(handle, on_done, NULL);
}

static void say(void)
{
    printf("%lu %lu %lu %s\n", ok, unstarted, failed, last);
    (void)fflush(stdout);
}

static void take_line(void)
{
    char line[64];

    if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
        exit(1);
    if (strncmp(line, "end", 3) == 0)
        is_ending = 1;
    else
        say();
}

int main(int argc, char **argv)
{
    const struct knit_retry_options retry = {.attempts = 10, .wait_ms = 1, .budget_percent = 100};
    const struct knit_spread_options spread = {.lookup_ms = LOOKUP_MS};
    const struct knit_tls_options tls = {.ca_file = getenv("KNIT_CA")};
    const char *const connect_ms = getenv("KNIT_CONNECT_MS");
    const struct knit_open_options opened = {.name = "spreads",
        .connect_ms = connect_ms != NULL ? (uint32_t)strtoul(connect_ms, NULL, 10) : 0,
        .retry = &retry,
        .spread = &spread,
        .tls = tls.ca_file != NULL ? &tls : NULL};

    if (argc != 5)
        return 2;
    nap_ms = strtol(argv[3], NULL, 10);
    options.timeout_ms = strtod(argv[4], NULL);
    if (knit_open(argv[1], &opened, &k, &error) != KNIT_OK) {
        printf("cannot open: %s: %s\n", error.name, error.message);
        return 1;
    }
    for (long depth = strtol(argv[2], NULL, 10); depth > 0; depth--)
        start();
    while (in_flight > 0) {
        struct pollfd items[] = {
            {.fd = knit_fd(k), .events = POLLIN},
            {.fd = is_ending ? -1 : STDIN_FILENO, .events = POLLIN},
        };

        (void)knit_flush(k, NULL);
        if (poll(items, 2, -1) < 0)
            continue;
        if (items[1].revents != 0)
            take_line();
        (void)knit_dispatch(k, NULL);
    }
    k = knit_close(k);
    say();
    return 0;
}
