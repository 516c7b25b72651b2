/* SPDX-License-Identifier: Apache-2.0 */
/* COUNT tasks from number FIRST on, which give their number. Their names have 126 to 128 bytes, and
 * differ from those of many others in the last one alone; REVERSED: they stand in the table the
 * other way round. */
#include <stdio.h>
#include <string.h>

#include <knitting/task.h>

#include "tests/conformance/numbered.h"

static int numbers[COUNT];

static int give_number(struct knit_call *call)
{
    const int *number = knit_task_user(call);

    return knit_return_int(call, *number);
}

static int list(const struct knit_task *const **ret_tasks, size_t *ret_count, char *ret_message,
    size_t message_size)
{
    static struct knit_task tasks[COUNT];
    static const struct knit_task *list[COUNT];
    static char names[COUNT][NUMBERED_BYTES], signatures[COUNT][NUMBERED_BYTES + 16];

    (void)ret_message;
    (void)message_size;
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = FIRST + i;
        numbered_name(names[i], numbers[i]);
        (void)snprintf(
            signatures[i], sizeof(signatures[i]), "%.*s() -> int", NUMBERED_BYTES - 1, names[i]);
        tasks[i] = (struct knit_task){
            .name = names[i], .signature = signatures[i], .run = give_number, .user = &numbers[i]};
        list[REVERSED ? COUNT - 1 - i : i] = &tasks[i];
    }
    *ret_tasks = list;
    *ret_count = COUNT;
    return 0;
}

KNIT_MODULE_LIST("1.0", NULL, list);
