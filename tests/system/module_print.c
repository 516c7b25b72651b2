/* SPDX-License-Identifier: Apache-2.0 */
/* A task that prints, for tests of where that goes. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <knitting/task.h>

static int greet(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)info;
    (void)ret_message;
    (void)message_size;
    (void)printf("hello from bootstrap\n");
    for (int fd = STDERR_FILENO + 1; fd < 64; fd++) {
        if (fcntl(fd, F_GETFD) == 0)
            (void)printf("a program that bootstrap starts has descriptor %d\n", fd);
    }
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", greet);

KNIT_TASK(print, "print(text: str, times: int, stream: str?) -> nil",
    .doc = "Prints the text that many times, to stdout or to stderr.")
{
    size_t len, stream_len;
    const char *text = knit_arg_bytes(call, 0, &len);
    int64_t times = knit_arg_int(call, 1);
    FILE *file = knit_arg_bytes(call, 2, &stream_len) != NULL ? stderr : stdout;

    for (int64_t i = 0; i < times; i++)
        (void)fwrite(text, 1, len, file);
    (void)fflush(file);
    return knit_return_nil(call);
}

KNIT_TASK(mutter, "mutter(text: str) -> nil", .doc = "Prints to stdout, and flushes nothing.")
{
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);

    (void)fwrite(text, 1, len, stdout);
    return knit_return_nil(call);
}

KNIT_TASK(say, "say(out: str, err: str, child: str, fails: bool) -> int",
    .doc = "Prints to stdout, which it does not flush, to stderr, and from a child.")
{
    const char *texts[3];
    size_t lens[3];
    pid_t child;

    for (uint32_t i = 0; i < 3; i++)
        texts[i] = knit_arg_bytes(call, i, &lens[i]);
    child = fork();
    if (child == 0) {
        (void)!write(STDOUT_FILENO, texts[2], lens[2]);
        _exit(0);
    }
    (void)waitpid(child, NULL, 0);
    (void)fwrite(texts[1], 1, lens[1], stderr);
    (void)fwrite(texts[0], 1, lens[0], stdout);
    return knit_arg_bool(call, 3) ? knit_fail(call, 7, "as was wanted") : knit_return_int(call, 5);
}

KNIT_TASK(lane, "lane() -> int", .doc = "The worker's process.")
{
    return knit_return_int(call, getpid());
}

KNIT_TASK(chatter, "chatter(ms: int) -> nil",
    .doc = "Leaves a child that prints without a pause for so long.")
{
    struct timespec now;
    int64_t ms = knit_arg_int(call, 0), until_ms;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    until_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + ms;
    if (fork() != 0)
        return knit_return_nil(call);
    while ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 < until_ms &&
           write(STDOUT_FILENO, "chatter\n", 8) == 8)
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
    _exit(0);
}

KNIT_TASK(gasp, "gasp(text: str) -> nil", .doc = "Prints to stderr, and ends the worker.")
{
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);

    (void)fwrite(text, 1, len, stderr);
    _exit(1);
}
