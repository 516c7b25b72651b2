/* SPDX-License-Identifier: Apache-2.0 */
/* fork and exec, with the output in a file rather than a pipe: the program does not block when
 * nothing reads it, and all of it is there when a test fails.
 *
 * Waiting for an end polls, like all waiting here: waitpid() has no deadline, and valgrind does not
 * know pidfds, for which poll() has one.
 */
#include "tests/support/process.h"

#include "tests/support/deadline.h"
#include "tests/support/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a shell gives for a program it cannot start. */
enum { EXIT_NOT_STARTED = 127 };

static void give_up(const char *what)
{
    fprintf(stderr, "process: %s: %s\n", what, strerror(errno));
    abort();
}

/* In the child, between fork and exec: only what may be called there. */
static void become(const char *const argv[], int output_fd, pid_t parent)
{
    sigset_t none;
    int null_fd = open("/dev/null", O_RDONLY);

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above could matter */
        _exit(EXIT_NOT_STARTED);
    if (dup2(null_fd, STDIN_FILENO) < 0 || dup2(output_fd, STDOUT_FILENO) < 0 ||
        dup2(output_fd, STDERR_FILENO) < 0)
        _exit(EXIT_NOT_STARTED);
    execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(EXIT_NOT_STARTED);
}

static char *output_path(const char *dir, const char *program)
{
    static unsigned started;
    const char *slash = strrchr(program, '/');
    char *name, *path;

    if (asprintf(&name, "%s.%d.%u.log", slash != NULL ? slash + 1 : program, (int)getpid(),
            started++) < 0)
        give_up("no memory for a name");
    path = knit_scratch_path(dir, name);
    free(name);
    return path;
}

void knit_process_start(struct knit_process *ret_process, const char *dir, const char *const argv[])
{
    char *path = output_path(dir, argv[0]);
    int output_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    pid_t parent = getpid(), pid;

    if (output_fd < 0)
        give_up(path);
    pid = fork();
    if (pid < 0)
        give_up("fork");
    if (pid == 0)
        become(argv, output_fd, parent);
    setpgid(pid, pid); /* here too, so that the group exists before this returns */
    close(output_fd);
    *ret_process = (struct knit_process){.pid = pid, .output = path};
}

int knit_process_run(
    const char *dir, const char *const argv[], uint32_t timeout_ms, char **ret_output)
{
    struct knit_process process;
    int status;

    knit_process_start(&process, dir, argv);
    status = knit_process_wait(&process, timeout_ms);
    if (ret_output != NULL)
        *ret_output = knit_scratch_read(process.output, NULL);
    if (status == KNIT_PROCESS_STILL_RUNNING)
        (void)knit_process_stop(&process, SIGKILL, timeout_ms);
    free(process.output);
    return status;
}

static bool has_written(const struct knit_process *process, const char *text)
{
    char *output = knit_scratch_read(process->output, NULL);
    bool found = output != NULL && strstr(output, text) != NULL;

    free(output);
    return found;
}

static bool has_ended(const struct knit_process *process)
{
    siginfo_t info = {.si_pid = 0};

    return process->pid == 0 ||
           (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid != 0);
}

bool knit_process_wait_for_text(struct knit_process *process, const char *text, uint32_t timeout_ms)
{
    (void)KNIT_WAIT_UNTIL(has_written(process, text) || has_ended(process), timeout_ms);
    return has_written(process, text);
}

int knit_process_wait(struct knit_process *process, uint32_t timeout_ms)
{
    int status;

    if (process->pid == 0)
        return 0;
    if (!KNIT_WAIT_UNTIL(has_ended(process), timeout_ms))
        return KNIT_PROCESS_STILL_RUNNING;
    if (waitpid(process->pid, &status, 0) < 0)
        give_up("waitpid");
    process->pid = 0;
    return WIFSIGNALED(status) ? KNIT_PROCESS_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

int knit_process_stop(struct knit_process *process, int signal, uint32_t timeout_ms)
{
    int status = 0;

    if (process->pid != 0) {
        kill(process->pid, signal);
        status = knit_process_wait(process, timeout_ms);
        if (status == KNIT_PROCESS_STILL_RUNNING) {
            kill(process->pid, SIGKILL);
            waitpid(process->pid, NULL, 0);
            process->pid = 0;
        }
    }
    if (status != 0 && process->output != NULL) {
        char *output = knit_scratch_read(process->output, NULL);

        fprintf(stderr, "%s:\n%s", process->output, output != NULL ? output : "");
        free(output);
    }
    free(process->output);
    process->output = NULL;
    return status;
}
