/* SPDX-License-Identifier: Apache-2.0 */
/* Everything is read from the system when asked: a process may be confined to fewer cores than the
 * machine has, and may pin itself between two questions. */
#include "bench/machine.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

uint32_t knit_machine_cpus(int *cpus, uint32_t max)
{
    cpu_set_t set;
    uint32_t count = 0;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && count < max; cpu++) {
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    }
    return count;
}

void knit_machine_pair(int *ret_first, int *ret_second)
{
    int cpus[2] = {0, 0};
    uint32_t count = knit_machine_cpus(cpus, 2);
    *ret_first = cpus[0];
    *ret_second = count > 1 ? cpus[1] : cpus[0];
}

bool knit_machine_pin_to(const int *cpus, uint32_t count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (uint32_t i = 0; i < count; i++)
        CPU_SET(cpus[i], &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0;
}

bool knit_machine_pin(int cpu)
{
    return cpu < 0 || knit_machine_pin_to(&cpu, 1);
}

/* "model name : X" of the first processor; aarch64 has no such line. */
static void read_model(char *ret_model, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    snprintf(ret_model, size, "unknown processor");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(ret_model, size, "%s", colon + 2);
            break;
        }
    }
    if (file != NULL)
        fclose(file);
}

const char *knit_machine_describe(void)
{
    static char text[256];
    char model[96], date[16] = "";
    struct utsname name = {.release = "unknown"};
    time_t now = time(NULL);
    struct tm local;
    const char *compiler;
    read_model(model, sizeof(model));
    (void)uname(&name);
    if (localtime_r(&now, &local) != NULL)
        (void)strftime(date, sizeof(date), "%Y-%m-%d", &local);
#if defined(__clang__)
    compiler = "clang " __clang_version__;
#else
    compiler = "gcc " __VERSION__;
#endif
    snprintf(text, sizeof(text), "%s, %ld cores, Linux %s, %s, %s", model,
        sysconf(_SC_NPROCESSORS_ONLN), name.release, compiler, date);
    return text;
}
