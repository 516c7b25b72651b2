/* SPDX-License-Identifier: Apache-2.0 */
/* A module that makes its tasks when it is loaded: number_0 to number_49, one function, each with a
 * number of its own, which is its `user`. Built a second time with LIST_FAILS, it has none.
 */
#include <stdio.h>
#include <string.h>

#include <knitting/task.h>

enum { COUNT = 50 };

static int numbers[COUNT];

static int add_own(struct knit_call *call)
{
    const int *number = knit_task_user(call);

    return knit_return_int(call, knit_arg_int(call, 0) + *number);
}

static int list(const struct knit_task *const **ret_tasks, size_t *ret_count, char *ret_message,
    size_t message_size)
{
    static struct knit_task tasks[COUNT];
    static const struct knit_task *list[COUNT];
    static char names[COUNT][16], signatures[COUNT][40];

    if (LIST_FAILS) {
        (void)snprintf(ret_message, message_size, "there are none");
        return 3;
    }
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "number_%d", i);
        (void)snprintf(signatures[i], sizeof(signatures[i]), "number_%d(to: int) -> int", i);
        numbers[i] = i;
        tasks[i] = (struct knit_task){
            .name = names[i], .signature = signatures[i], .run = add_own, .user = &numbers[i]};
        list[i] = &tasks[i];
    }
    *ret_tasks = list;
    *ret_count = COUNT;
    return 0;
}

KNIT_MODULE_LIST("1.0", NULL, list);
