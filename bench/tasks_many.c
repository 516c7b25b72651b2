/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that are not called, nearly as many as a pool may have: they show what a registry of that
 * size costs other calls. */
#include <stdio.h>

#include <knitting/task.h>

enum { COUNT = 65500 };

static int fill(struct knit_call *call)
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

static int list(const struct knit_task *const **ret_tasks, size_t *ret_count, char *ret_message,
    size_t message_size)
{
    static struct knit_task tasks[COUNT];
    static const struct knit_task *list[COUNT];
    static char names[COUNT][16], signatures[COUNT][56];

    (void)ret_message, (void)message_size;
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "filler_%d", i);
        (void)snprintf(
            signatures[i], sizeof(signatures[i]), "%s(number: int, text: str?) -> int", names[i]);
        tasks[i] = (struct knit_task){.name = names[i], .signature = signatures[i], .run = fill};
        list[i] = &tasks[i];
    }
    *ret_tasks = list;
    *ret_count = COUNT;
    return 0;
}

KNIT_MODULE_LIST("1.0", NULL, list);
