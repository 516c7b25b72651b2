/* SPDX-License-Identifier: Apache-2.0 */
/* One measurement, or one server to measure beside; bench/tls.py runs them in turns.
 *
 *     knit-tls-bench serve PORT [CERTIFICATE KEY]
 *     knit-tls-bench load plain|tls echo|call PORT CONNECTIONS DEPTH BYTES MS
 *     knit-tls-bench shake full|resumed PORT THREADS MS
 *     knit-tls-bench machine                               where this runs
 */
#include "bench/tls_bench.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/machine.h"

static unsigned number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*end != '\0' || value > 1u << 30) {
        fprintf(stderr, "expected a number, not %s\n", text);
        exit(2);
    }
    return (unsigned)value;
}

static int finish(double rate)
{
    if (rate < 0)
        return 1;
    printf("%.0f\n", rate);
    return 0;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    if ((argc == 3 || argc == 5) && strcmp(argv[1], "serve") == 0)
        return tls_serve((uint16_t)number(argv[2]), argc == 5 ? argv[3] : NULL, argv[argc - 1]);
    if (argc == 9 && strcmp(argv[1], "load") == 0)
        return finish(tls_load_run(&(struct tls_load){.port = (uint16_t)number(argv[4]),
            .is_encrypted = strcmp(argv[2], "tls") == 0,
            .is_call = strcmp(argv[3], "call") == 0,
            .connections = number(argv[5]),
            .depth = number(argv[6]),
            .bytes = number(argv[7]),
            .ms = number(argv[8])}));
    if (argc == 6 && strcmp(argv[1], "shake") == 0)
        return finish(tls_shake_run((uint16_t)number(argv[3]), strcmp(argv[2], "resumed") == 0,
            number(argv[4]), number(argv[5])));
    if (argc == 2 && strcmp(argv[1], "machine") == 0)
        return puts(knit_machine_describe()) < 0;
    fprintf(stderr, "see the head of bench/tls_bench.c\n");
    return 2;
}
