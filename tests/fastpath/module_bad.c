/* SPDX-License-Identifier: Apache-2.0 */
/* Modules that must be refused, one for each value of BAD. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <knitting/task.h>

#if BAD == 1 /* another ABI */
extern __attribute__((visibility("default"))) const struct knit_module knit_module;
const struct knit_module knit_module = {KNIT_MODULE_ABI + 7, sizeof(struct knit_module)};
#elif BAD == 2  /* no tasks */
KNIT_MODULE("1.0");
#elif BAD == 3  /* a bad signature */
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "wrong(a: itn) -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 4  /* a signature of another name */
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "right() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 5  /* flags of a later version */
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "wrong() -> int", .flags = 1u << 20)
{
    return knit_return_int(call, 1);
}
#elif BAD == 6  /* a name twice */
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
KNIT_TASK_AS(wrong_again, "wrong", "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 7  /* a symbol that no library has */
extern int knit_test_no_library_has_this(void);
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, knit_test_no_library_has_this());
}
#elif BAD == 8  /* a hook that fails */
static int hook(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    static const char text[] = "no database today";

    (void)info;
    memcpy(ret_message, text, sizeof(text) < message_size ? sizeof(text) : message_size);
    return 5;
}
KNIT_MODULE_BOOTSTRAP("1.0", hook);
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 9  /* no KNIT_MODULE() */
int knit_test_nothing(void);
int knit_test_nothing(void)
{
    return 0;
}
#elif BAD == 10 /* dies while it is loaded */
__attribute__((constructor)) static void die(void)
{
    abort();
}
KNIT_MODULE("1.0");
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 11 /* the name of a task that another module has */
KNIT_MODULE("1.0");
KNIT_TASK(echo, "echo() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 12 /* a bad name */
KNIT_MODULE("1.0");
KNIT_TASK_AS(wrong, "wrong name", "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 14 /* a hook that dies */
static int hook(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)info, (void)ret_message, (void)message_size;
    abort();
}
KNIT_MODULE_BOOTSTRAP("1.0", hook);
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 17 /* a value in the place of a timeout that is no result of the task */
KNIT_MODULE("1.0");
static const struct knit_on_timeout text = {.value = "\xa1x", .value_len = 2};
KNIT_TASK(wrong, "wrong() -> int", .timeout_ms = 5, .on_timeout = &text)
{
    return knit_return_int(call, 1);
}
#elif BAD == 15 /* a hook that hangs */
static int hook(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)info, (void)ret_message, (void)message_size;
    while (pause() != 0)
        ;
    return 0;
}
KNIT_MODULE_BOOTSTRAP("1.0", hook);
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#elif BAD == 13 /* workers of which even and odd ones live in turn, half a second each */
static void wait_for(int64_t first_ms, int64_t last_ms)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct timespec now;
    int64_t ms;

    do {
        (void)nanosleep(&pause, NULL);
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        ms = (now.tv_sec * 1000 + now.tv_nsec / 1000000) % 1000;
    } while (ms < first_ms || ms > last_ms);
}
static int64_t turn_ms;
static void *leave_soon(void *unused)
{
    wait_for(turn_ms + 200, turn_ms + 499);
    _exit(7);
    return unused;
}
static int hook(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    pthread_t thread;

    (void)ret_message, (void)message_size;
    turn_ms = 500 * (int64_t)(info->index % 2);
    wait_for(turn_ms, turn_ms + 100);
    return pthread_create(&thread, NULL, leave_soon, NULL);
}
KNIT_MODULE_BOOTSTRAP("1.0", hook);
KNIT_TASK(wrong, "wrong() -> int")
{
    return knit_return_int(call, 1);
}
#endif
