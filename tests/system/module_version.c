/* SPDX-License-Identifier: Apache-2.0 */
/* A module in several versions: VERSION is what it says of itself, NEEDS_OWN_LIBRARY makes it use a
 * library that lies in its own folder. Its weight is read-only bytes that workers can share. */
#include <knitting/task.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define WEIGHT (4u << 20)

static const char *told = "";

static int remember(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    static char path[4096];

    (void)ret_message;
    (void)message_size;
    (void)snprintf(path, sizeof(path), "%s", info->path);
    told = path;
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", remember);

#ifdef NEEDS_OWN_LIBRARY
int knit_test_beside(void);
#else
static int knit_test_beside(void)
{
    return 0;
}
#endif

KNIT_TASK(version, "version() -> int")
{
    return knit_return_int(call, VERSION + knit_test_beside());
}

KNIT_TASK(told_path, "told_path() -> str", .doc = "What its hook was told.")
{
    return knit_return_str(call, told, strlen(told));
}

KNIT_TASK(own_path, "own_path() -> str", .doc = "Where the loader says that its code comes from.")
{
    Dl_info info = {.dli_fname = ""};

    (void)dladdr((const void *)&told, &info);
    return knit_return_str(call, info.dli_fname, strlen(info.dli_fname));
}

KNIT_TASK(opens_itself, "opens_itself() -> bool", .doc = "By that name, whatever is there now.")
{
    Dl_info info = {.dli_fname = ""};
    void *again;

    (void)dladdr((const void *)&told, &info);
    again = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    return knit_return_bool(call, again != NULL && dlsym(again, "knit_module") == &knit_module);
}

KNIT_TASK(weigh, "weigh() -> int", .doc = "Reads its own weight.")
{
    static const char weight[WEIGHT] = {1, 2, 3, [WEIGHT - 1] = VERSION};
    int64_t sum = 0;

    for (size_t i = 0; i < WEIGHT; i += 1024)
        sum += ((const volatile char *)weight)[i];
    return knit_return_int(call, sum);
}
