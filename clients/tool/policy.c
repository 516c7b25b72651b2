/* SPDX-License-Identifier: Apache-2.0 */
/* knit policy and knit reload. A file is checked here, so that it can be looked at before it is
 * where the daemon reads it; what is in force only the daemon knows. A user of this machine is
 * asked about with all its groups.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/values.h>

#include "clients/tool/json.h"
#include "clients/tool/tool.h"
#include "proto/policy.h"
#include "proto/writer.h"

enum { GROUPS_MAX = 63, NAMES_BYTES_MAX = 64 * 1024 };

/* ---- check --------------------------------------------------------------------------------- */

static bool find_id(bool is_group, const char *name, struct knit_policy_word *word)
{
    const struct passwd *user = is_group ? NULL : getpwnam(name);
    const struct group *group = is_group ? getgrnam(name) : NULL;

    if (user == NULL && group == NULL)
        return false;
    (void)snprintf(word->id, sizeof(word->id), "%s:%u", is_group ? "gid" : "uid",
        user != NULL ? (unsigned)user->pw_uid : (unsigned)group->gr_gid);
    return true;
}

/* The whole file, at most one byte more than is allowed. NULL: errno. */
static char *read_file(const char *path, size_t *ret_len)
{
    FILE *file = fopen(path, "re");
    char *text = file != NULL ? malloc(KNIT_POLICY_FILE_BYTES_MAX + 1) : NULL;

    *ret_len = text != NULL ? fread(text, 1, KNIT_POLICY_FILE_BYTES_MAX + 1, file) : 0;
    if (text != NULL && ferror(file)) {
        free(text);
        text = NULL;
    }
    if (file != NULL)
        (void)fclose(file);
    return text;
}

static int check_text(
    const char *path, const char *text, size_t len, size_t *ret_sections, struct knit_sentence *why)
{
    struct knit_policy_file file = {0};
    int r = knit_policy_file_read(&file, path, text, len, why);

    if (r == 0)
        r = knit_policy_file_each_name(&file, path, find_id, why);
    if (r == 0)
        r = knit_policy_file_check(&file, path, why);
    *ret_sections = file.count;
    knit_policy_file_fini(&file);
    return r;
}

static int check(const struct knit_tool *tool, const char *path)
{
    struct knit_sentence why = {""};
    size_t len, sections = 0;
    char *text = read_file(path, &len);
    int r;

    if (text == NULL)
        return knit_tool_fail(tool, KNIT_TOOL_USAGE, "cannot read %s: %s", path, strerror(errno));
    r = check_text(path, text, len, &sections, &why);
    free(text);
    if (r < 0)
        return knit_tool_no_memory(tool);
    if (r != 0)
        return knit_tool_fail(tool, KNIT_TOOL_FAILED, "%s", why.text);
    if (tool->is_json)
        printf("{\"sections\":%zu}\n", sections);
    else
        printf("%s: %zu sections, nothing wrong with them\n", path, sections);
    return knit_tool_finish(tool);
}

/* ---- why ----------------------------------------------------------------------------------- */

static void put_id(struct knit_writer *writer, const char *kind, unsigned id)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%s:%u", kind, id);
    knit_writer_text(writer, text);
}

static void put_user(struct knit_writer *writer, const struct passwd *user)
{
    gid_t gids[GROUPS_MAX];
    int count = GROUPS_MAX;

    (void)getgrouplist(user->pw_name, user->pw_gid, gids, &count);
    if (count > GROUPS_MAX)
        count = GROUPS_MAX;
    knit_writer_array(writer, 1 + (uint32_t)count);
    put_id(writer, "uid", (unsigned)user->pw_uid);
    for (int i = 0; i < count; i++)
        put_id(writer, "gid", (unsigned)gids[i]);
}

/* Of "uid:N", as which the daemon names whom it knows by no token; NULL: it is no user's. */
static const struct passwd *find_uid(const char *principal)
{
    char *end;
    unsigned long uid;

    if (strncmp(principal, "uid:", 4) != 0 || principal[4] < '0' || principal[4] > '9')
        return NULL;
    uid = strtoul(principal + 4, &end, 10);
    return *end == '\0' && uid < UINT32_MAX ? getpwuid((uid_t)uid) : NULL;
}

static bool is_principal(const char *text)
{
    static const char *const kinds[] = {"token:", "user:", "uid:", "cert:uri:", "cert:dns:"};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(text, kinds[i], strlen(kinds[i])) == 0 && text[strlen(kinds[i])] != '\0')
            return i >= 3 || strchr(text, '*') == NULL; /* a certificate may have one in its name */
    return strcmp(text, "anonymous") == 0;
}

/* False: no such principal can be. */
static bool put_principal(struct knit_writer *writer, const char *principal)
{
    bool is_name = strncmp(principal, "user:", 5) == 0;
    const struct passwd *user = is_name ? getpwnam(principal + 5) : find_uid(principal);

    if (user != NULL)
        put_user(writer, user);
    else if (!is_name)
        knit_writer_text(writer, principal);
    return user != NULL || !is_name;
}

static int print_json(const struct knit_tool *tool, const void *map, size_t len, int status)
{
    char *text = NULL;
    int written;

    if (knit_json_write(knit_span(map, len), false, &text) != 0)
        return knit_tool_fail(tool, KNIT_TOOL_BROKE, "the daemon answered something else");
    knit_tool_put_json(text);
    free(text);
    written = knit_tool_finish(tool);
    return written != KNIT_TOOL_OK ? written : status;
}

static int print_answer(const struct knit_tool *tool, const void *map, size_t map_len)
{
    struct knit_reader reader = KNIT_READER_INIT;
    struct knit_value answer = knit_read(&reader, map, map_len);
    bool is_allowed = knit_value_bool(knit_value_get(answer, "allowed"));
    int status = is_allowed ? KNIT_TOOL_OK : KNIT_TOOL_FAILED, written;
    size_t len = 0;
    const char *text = knit_value_text(knit_value_get(answer, "because"), &len);
    char *copy;

    if (knit_reader_code(&reader) != KNIT_OK)
        return knit_tool_fail(tool, KNIT_TOOL_BROKE, "the daemon answered something else");
    if (tool->is_json)
        return print_json(tool, map, map_len, status);
    copy = strndup(text, len);
    if (copy == NULL)
        return knit_tool_no_memory(tool);
    fputs(is_allowed ? "allowed: " : "denied: ", stdout);
    knit_tool_put_text(copy);
    putchar('\n');
    free(copy);
    written = knit_tool_finish(tool);
    return written != KNIT_TOOL_OK ? written : status;
}

static int ask(const struct knit_tool *tool, struct knit_buffer *names, const char *task)
{
    const struct knit_call_options options = knit_tool_method_options(tool);
    struct knit_error error;
    struct knit *k;
    const void *map;
    size_t len;
    int status = knit_tool_open(tool, NULL, &k);

    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_call_with(k, &options, &error, "$/why", "(any, str) -> map",
            (const void *)names->bytes, names->len, task, &map, &len) != KNIT_OK)
        status = knit_tool_report(tool, &error);
    else
        status = print_answer(tool, map, len);
    knit_close(k);
    return status;
}

static int why(const struct knit_tool *tool, const char *principal, const char *task)
{
    struct knit_buffer names;
    struct knit_writer writer;
    int status;

    if (!is_principal(principal))
        return knit_tool_usage(tool,
            "'%s' is no principal: expected anonymous, token:NAME, user:NAME, uid:N, cert:uri:URI "
            "or cert:dns:NAME",
            principal);
    knit_buffer_init(&names, NAMES_BYTES_MAX);
    knit_writer_init(&writer, &names);
    if (!put_principal(&writer, principal))
        status = knit_tool_fail(
            tool, KNIT_TOOL_USAGE, "this machine has no user '%s'", principal + strlen("user:"));
    else if (knit_writer_end(&writer) != 0)
        status = knit_tool_usage(tool, "the principal is no text in UTF-8");
    else
        status = ask(tool, &names, task);
    knit_buffer_fini(&names);
    return status;
}

int knit_tool_policy(const struct knit_tool *tool, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], "check") == 0)
        return check(tool, argv[1]);
    if (argc == 3 && strcmp(argv[0], "why") == 0)
        return why(tool, argv[1], argv[2]);
    return knit_tool_usage(tool, "policy takes check FILE, or why PRINCIPAL TASK");
}

/* ---- reload -------------------------------------------------------------------------------- */

/* What is to be known of what was read. */
static void print_note(const struct knit_tool *tool, const void *note, size_t len)
{
    struct knit_reader reader = KNIT_READER_INIT;
    const char *text = knit_value_text(knit_read(&reader, note, len), &len);
    char *copy = knit_reader_code(&reader) == KNIT_OK ? strndup(text, len) : NULL;

    if (copy != NULL)
        knit_tool_put_note(tool, copy);
    free(copy);
}

int knit_tool_reload(const struct knit_tool *tool, int argc, char **argv)
{
    const struct knit_call_options options = knit_tool_method_options(tool);
    struct knit_error error;
    const void *note;
    struct knit *k;
    size_t len;
    int status = argc == 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "reload takes no arguments");

    (void)argv;
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_call_with(k, &options, &error, "$/reload", "() -> any", &note, &len) != KNIT_OK)
        status = knit_tool_report(tool, &error);
    else
        print_note(tool, note, len);
    knit_close(k);
    return status;
}
