/* SPDX-License-Identifier: Apache-2.0 */
/* The start of a worker of another version: it sends HELLO and waits until it is refused. OTHER
 * says in what it differs: 1 the product's version, 2 the layout of shared memory, 3 the control
 * protocol itself.
 */
#include <stdio.h>

#include "config.h"
#include "fastpath/control/control.h"

int main(void)
{
    struct knit_control_message message;
    int fds[KNIT_CONTROL_FDS_MAX];

    knit_control_init(&message, KNIT_CONTROL_HELLO);
    message.hello.layout_version = KNIT_LAYOUT_VERSION + (OTHER == 2);
    message.version += OTHER == 3;
    snprintf(message.text, sizeof(message.text), "%s", OTHER == 1 ? "999.9" : KNIT_VERSION);
    if (knit_control_report(KNIT_CONTROL_REPORT_FD, &message) != 0)
        return 1;
    while (knit_control_receive(KNIT_CONTROL_FD, &message, fds, true) == 0)
        ;
    return 0;
}
