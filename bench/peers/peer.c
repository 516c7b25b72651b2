/* SPDX-License-Identifier: Apache-2.0 */
/* A closed loop of so many calls: each that was answered is followed by another, or, in batches,
 * all of them by as many when the last was. Times are from before a call is sent until its answer
 * has been looked at. The first fifth of each case counts for nothing. */
#include "bench/peers/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/machine.h"
#include "bench/ticks.h"
#include "bench/typical.h"

enum { CHILDREN_MAX = 4, CASES_MAX = 32, GIVE_UP_S = 60, START_TRIES = 500 };

struct load {
    uint32_t depth;
    uint32_t bytes;
    bool is_batch;
};

struct call {
    unsigned char *bytes;
    uint64_t number;
    uint64_t began;
};

static struct {
    struct knit_typical spans;
    struct call calls[PEER_CALLS_MAX];
    uint32_t idle[PEER_CALLS_MAX];
    uint32_t idle_count;
    uint32_t bytes;
    uint64_t next_number;
    uint64_t done;
    pid_t children[CHILDREN_MAX];
    uint32_t children_count;
    int line_fd; /* to the worker, or to the program */
} state = {.line_fd = -1};

void peer_fail(const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", peer.name, what);
    exit(1);
}

/* ---- other processes ------------------------------------------------------------------------- */

static void end_children(void)
{
    /* A worker before the server it talks to. */
    for (uint32_t i = 0; i < state.children_count; i++) {
        (void)kill(state.children[i], SIGKILL);
        (void)waitpid(state.children[i], NULL, 0);
    }
    state.children_count = 0;
}

static bool fork_child(void)
{
    pid_t parent = getpid(), pid = fork();

    if (pid < 0 || state.children_count == CHILDREN_MAX)
        peer_fail("no process for a worker or server");
    if (pid > 0) {
        state.children[state.children_count++] = pid;
        return false;
    }
    state.children_count = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    return true;
}

void peer_fork(void (*serve)(void))
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        peer_fail(strerror(errno));
    if (fork_child()) {
        (void)close(fds[0]);
        state.line_fd = fds[1];
        serve();
        _exit(0);
    }
    (void)close(fds[1]);
    state.line_fd = fds[0];
}

void peer_tell(const char *line)
{
    if (send(state.line_fd, line, strlen(line) + 1, MSG_NOSIGNAL) < 0)
        peer_fail("the other side is gone");
}

void peer_hear(char line[PEER_TEXT_MAX])
{
    ssize_t len = recv(state.line_fd, line, PEER_TEXT_MAX, 0);

    if (len <= 0 || line[len - 1] != '\0')
        peer_fail("the other side is gone");
}

static int connect_to(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

uint16_t peer_free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        peer_fail("no free port");
    (void)close(fd);
    return ntohs(address.sin_port);
}

void peer_start_server(char *const argv[], uint16_t port)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    pid_t pid;
    int fd;

    if (fork_child()) {
        int null = open("/dev/null", O_RDWR);

        (void)dup2(null, STDOUT_FILENO);
        (void)dup2(null, STDERR_FILENO);
        (void)execv(argv[0], argv);
        _exit(127);
    }
    pid = state.children[state.children_count - 1];
    for (int i = 0; i < START_TRIES; i++) {
        fd = connect_to(port);
        if (fd >= 0) {
            (void)close(fd);
            return;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            state.children_count--;
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    peer_fail("its server does not start");
}

/* ---- the load -------------------------------------------------------------------------------- */

void peer_done(uint32_t index, const void *bytes, size_t len)
{
    struct call *call;

    if (index >= PEER_CALLS_MAX)
        peer_fail("an answer to no call");
    call = &state.calls[index];
    if (len != state.bytes || memcmp(bytes, &call->number, sizeof(call->number)) != 0)
        peer_fail("an answer that is not the argument");
    knit_typical_record(&state.spans, knit_ticks_now() - call->began);
    state.done++;
    state.idle[state.idle_count++] = index;
}

static void send_one(void)
{
    uint32_t index = state.idle[--state.idle_count];
    struct call *call = &state.calls[index];

    call->number = state.next_number++;
    memcpy(call->bytes, &call->number, sizeof(call->number));
    call->began = knit_ticks_now();
    peer.send(index, call->bytes, state.bytes);
}

static void run_until(const struct load *load, uint64_t end_ns)
{
    do {
        while (state.idle_count > 0)
            send_one();
        do
            peer.wait();
        while (load->is_batch && state.idle_count < load->depth);
    } while (knit_ticks_clock_ns() < end_ns);
}

static void measure(const struct load *load, double seconds)
{
    uint64_t ns = (uint64_t)(seconds * 1e9), began_ns, done;
    double took;

    state.bytes = load->bytes;
    state.idle_count = 0;
    for (uint32_t i = load->depth; i > 0; i--) {
        struct call *call = &state.calls[i - 1];

        free(call->bytes);
        call->bytes = calloc(1, load->bytes);
        if (call->bytes == NULL)
            peer_fail("out of memory");
        state.idle[state.idle_count++] = i - 1;
    }
    (void)alarm(GIVE_UP_S + (unsigned)seconds);
    run_until(load, knit_ticks_clock_ns() + ns / 5);
    knit_typical_init(&state.spans);
    done = state.done;
    began_ns = knit_ticks_clock_ns();
    run_until(load, began_ns + ns);
    took = (double)(knit_ticks_clock_ns() - began_ns) / 1e9;
    (void)printf("{\"depth\": %u, \"batch\": %s, \"bytes\": %u, \"rate\": %.1f, "
                 "\"p50_ns\": %.0f, \"p99_ns\": %.0f}\n",
        load->depth, load->is_batch ? "true" : "false", load->bytes,
        (double)(state.done - done) / took, knit_typical_percentile_ns(&state.spans, 50),
        knit_typical_percentile_ns(&state.spans, 99));
    while (state.idle_count < load->depth)
        peer.wait();
}

static struct load read_load(const char *text)
{
    struct load load = {.is_batch = *text == 'b'};
    char *end;

    load.depth = (uint32_t)strtoul(text + load.is_batch, &end, 10);
    load.bytes = *end == ':' ? (uint32_t)strtoul(end + 1, &end, 10) : 0;
    if (*end != '\0' || load.depth < 1 || load.depth > PEER_CALLS_MAX ||
        load.bytes < sizeof(uint64_t) || load.bytes > PEER_BYTES_MAX ||
        (load.depth > PEER_DEPTH_MAX && !load.is_batch) ||
        (uint64_t)load.depth * load.bytes > (uint64_t)PEER_DEPTH_MAX * PEER_BYTES_MAX)
        peer_fail("a case is DEPTH:BYTES, or bCALLS:BYTES for batches");
    return load;
}

int main(int argc, char **argv)
{
    struct peer_options options = {0};
    struct load loads[CASES_MAX];
    uint32_t count = 0;
    double seconds = 0.2;
    int option;

    while ((option = getopt(argc, argv, "a:ms:t:")) != -1) {
        if (option == 'a')
            options.address = optarg;
        else if (option == 'm')
            return puts(knit_machine_describe()) == EOF;
        else if (option == 's')
            options.server = optarg;
        else if (option == 't')
            seconds = strtod(optarg, NULL);
        else
            return 2;
    }
    for (; optind < argc && count < CASES_MAX; optind++)
        loads[count++] = read_load(argv[optind]);
    (void)atexit(end_children);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    peer.open(&options);
    for (uint32_t i = 0; i < count; i++)
        measure(&loads[i], seconds);
    peer.close();
    return 0;
}
