/* SPDX-License-Identifier: Apache-2.0 */
/* knit: calls tasks from a shell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/tool/command.h"
#include "fastpath/lane/fd.h"

enum { JOBS_DEFAULT = 64 };

/* The socket of a daemon that the user runs is tried before that of the system's. Over the socket
 * itself: to attach takes longer than one call saves. */
static const char *default_url(void)
{
    static char url[256];
    const char *runtime = getenv("XDG_RUNTIME_DIR");

    if (geteuid() != 0 && runtime != NULL && runtime[0] == '/') {
        snprintf(url, sizeof(url), "unix://%s/knitting/knitting.sock", runtime);
        if (access(url + strlen("unix://"), F_OK) == 0)
            return url;
    }
    return "unix:///run/knitting/knitting.sock";
}

/* NULL for an empty one. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

int main(int argc, char **argv)
{
    struct knit_tool tool = {.timeout_ms = -1, .jobs = JOBS_DEFAULT};
    struct knit_tool_request request;
    int status;

    if (knit_fd_reserve_standard() != 0)
        return KNIT_TOOL_OUTPUT;
    status = knit_tool_parse(argc, argv, &tool, &request);
    if (status != KNIT_TOOL_OK)
        return status;
    if (tool.url == NULL) {
        tool.url = variable("KNITTING_URL");
        tool.has_url = tool.url != NULL;
        if (!tool.has_url)
            tool.url = default_url();
    }
    if (tool.token_file == NULL)
        tool.token_file = variable("KNITTING_TOKEN_FILE");
    if (tool.token_file == NULL)
        tool.token = variable("KNITTING_TOKEN");
    return request.command->run(&tool, request.argc, request.argv);
}
