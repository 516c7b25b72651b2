/* SPDX-License-Identifier: Apache-2.0 */
/* RTLD_NOW makes an unresolved symbol a refusal at the start instead of a crash at the first call;
 * RTLD_LOCAL lets two modules have functions of one name.
 *
 * A module's declarations are copied with its own sizes (`task_size`) into this worker's
 * structures, zeroed where the module is older. They need no more trust than all code that runs in
 * this process; the checks are there to name mistakes. */
#include "fastpath/worker/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fastpath/control/image.h"
#include "fastpath/worker/float_state.h"
#include "proto/substitute.h"

#define FLAGS_KNOWN (KNIT_TASK_INLINE_SAFE | KNIT_TASK_IDEMPOTENT)
/* The size of each structure in its first version; there is no smaller one. */
#define MODULE_SIZE_MIN (offsetof(struct knit_module, bootstrap) + sizeof(void *))
#define TASK_SIZE_MIN   (offsetof(struct knit_task, flags) + sizeof(uint32_t))
#define TASK_SIZE_MAX   4096u
/* And of one that has a list. */
#define MODULE_SIZE_LIST (offsetof(struct knit_module, list) + sizeof(void *))

struct knit_modules {
    struct knit_registry *registry;
    uint32_t count;
    const char **paths;                 /* [count], copies */
    const struct knit_module **modules; /* [count] */
    uint32_t runs_capacity;
    knit_module_run **runs;  /* by id */
    void **users;            /* by id */
    uint32_t *module_of_run; /* by id */
};

struct knit_modules *knit_modules_free(struct knit_modules *modules)
{
    if (modules == NULL)
        return NULL;
    knit_registry_free(modules->registry);
    for (uint32_t i = 0; modules->paths != NULL && i < modules->count; i++)
        free((char *)modules->paths[i]);
    free(modules->paths);
    free(modules->modules);
    free(modules->runs);
    free(modules->users);
    free(modules->module_of_run);
    free(modules);
    return NULL;
}

static int compare_names(const void *a, const void *b)
{
    const struct knit_task *const *left = a, *const *right = b;

    return strcmp((*left)->name, (*right)->name);
}

/* The loader's message, which mostly begins with the name that it was given. */
static int refuse_load(const char *path, const char *name, struct knit_sentence *ret_why)
{
    const char *said = dlerror();

    if (said == NULL)
        said = "cannot be loaded";
    else if (strncmp(said, name, strlen(name)) == 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED, "%s%s", path, said + strlen(name));
    return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED, "%s: %s", path, said);
}

/* From here on the loader knows the module by its path; so dladdr(), debuggers and the loader's own
 * messages name it, and a module that opens itself by that name gets itself. The name is the
 * loader's, and in memory that it would free if it unloaded the module. */
static int give_name(void *handle, const char *path)
{
    struct link_map *known = NULL;
    char *name = strdup(path);

    if (name == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &known) != 0) {
        free(name);
        return -ENOMEM;
    }
    free(known->l_name);
    known->l_name = name;
    return 0;
}

static int load_copy(int fd, const char *path, struct knit_sentence *ret_why, void **ret_handle)
{
    char name[KNIT_IMAGE_NAME_SIZE];

    knit_image_name(fd, name);
    *ret_handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (*ret_handle == NULL)
        return refuse_load(path, name, ret_why);
    return give_name(*ret_handle, path);
}

/* Whether the file is what the pool's first worker loaded. */
static int check_file(
    const struct knit_module_copy *copy, const char *path, struct knit_sentence *ret_why)
{
    int error = copy != NULL ? knit_image_compare(path, copy->fd) : 0;

    if (error == KNIT_IMAGE_E_CHANGED)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: was changed since its pool was opened, and is loaded by its path: put it back, or "
            "restart the daemon",
            path);
    if (error != 0)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: cannot be read: %s", path, strerror(-error));
    return 0;
}

static int load_file(const struct knit_module_copy *copy, const char *path,
    struct knit_sentence *ret_why, void **ret_handle)
{
    int error = check_file(copy, path, ret_why);

    if (error != 0)
        return error;
    *ret_handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*ret_handle == NULL)
        return refuse_load(path, path, ret_why);
    /* It may have been changed in between. */
    return check_file(copy, path, ret_why);
}

/* ---- modules without copies, which stay loaded in this process ---- */

/* A file that is loaded, as it was then. */
struct instance {
    struct instance *next;
    const struct link_map *loaded;
    dev_t device;
    ino_t inode;
};

static struct instance *find_instance(struct instance *first, const struct link_map *loaded)
{
    while (first != NULL && first->loaded != loaded)
        first = first->next;
    return first;
}

/* A file is loaded once, however many pools name it, and by whatever path: the loader compares
 * device and inode. But where another file stands at a path that it knows, it gives the old one,
 * and nobody would notice. The list is guarded by the caller, who loads one at a time. */
static int check_instance(void *handle, const char *path, struct knit_sentence *ret_why)
{
    static struct instance *first;
    struct link_map *loaded = NULL;
    struct instance *instance;
    struct stat now;

    if (dlinfo(handle, RTLD_DI_LINKMAP, &loaded) != 0 || stat(path, &now) != 0)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: cannot be read: %s", path, strerror(errno));
    instance = find_instance(first, loaded);
    if (instance == NULL) {
        instance = malloc(sizeof(*instance));
        if (instance == NULL)
            return -ENOMEM;
        *instance = (struct instance){first, loaded, now.st_dev, now.st_ino};
        first = instance;
    }
    if (instance->device != now.st_dev || instance->inode != now.st_ino)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: was replaced since this program loaded it, and cannot be loaded again before the "
            "program is restarted",
            path);
    return 0;
}

/* The declaration that lies in the loaded file itself. dlsym() finds that of a library which the
 * file needs as well. */
static const struct knit_module *find_declaration(void *handle)
{
    struct link_map *own = NULL, *found = NULL;
    void *symbol = dlsym(handle, "knit_module");
    Dl_info unused;

    if (symbol == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &own) != 0 ||
        dladdr1(symbol, &unused, (void **)&found, RTLD_DL_LINKMAP) == 0 || found != own)
        return NULL;
    return symbol;
}

static int check_declaration(
    const struct knit_module *module, const char *path, struct knit_sentence *ret_why)
{
    if (module->abi != KNIT_MODULE_ABI)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: was built for module ABI %u, this worker has %u", path, module->abi,
            KNIT_MODULE_ABI);
    if (module->size < MODULE_SIZE_MIN || module->task_size < TASK_SIZE_MIN ||
        module->task_size > TASK_SIZE_MAX || module->api == NULL)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: its declaration is damaged", path);
    return 0;
}

/* Opens the module and finds its declaration. */
static int open_module(const struct knit_module_copy *copy, const char *path,
    struct knit_sentence *ret_why, const struct knit_module **ret_module)
{
    void *handle = NULL;
    int error = copy != NULL && copy->is_frozen ? load_copy(copy->fd, path, ret_why, &handle)
                                                : load_file(copy, path, ret_why, &handle);

    /* Constructors of -ffast-math switch denormals off, for those of the next module too. */
    knit_float_restore();
    if (error == 0 && copy == NULL)
        error = check_instance(handle, path, ret_why);
    if (error != 0)
        return error;
    *ret_module = find_declaration(handle);
    if (*ret_module == NULL)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: is no module: it has no KNIT_MODULE()", path);
    return check_declaration(*ret_module, path, ret_why);
}

/* The signature of a task, parsed, when everything the task says about itself is right. */
static int check_task(const char *path, const struct knit_task *task, struct knit_sentence *ret_why,
    struct knit_signature **ret_signature)
{
    struct knit_signature_flaw flaw = {0};
    struct knit_signature *signature = NULL;
    int error;

    if (!knit_signature_is_name(task->name, strlen(task->name)))
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task \"%.128s\": a name is 1 to 128 letters, digits, '_', '.', '-'", path,
            task->name);
    if (task->run == NULL)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: task %s: has no function", path, task->name);
    if ((task->flags & ~FLAGS_KNOWN) != 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: flags 0x%x are of a later version", path, task->name,
            task->flags & ~FLAGS_KNOWN);
    if (task->signature == NULL)
        return knit_sentence_set(
            ret_why, KNIT_MODULE_E_REFUSED, "%s: task %s: has no signature", path, task->name);
    error = knit_signature_parse(task->signature, strlen(task->signature), &signature, &flaw);
    if (error < 0)
        return error;
    if (error != 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: signature \"%.200s\": %s at byte %zu", path, task->name, task->signature,
            flaw.reason, flaw.offset);
    if (strcmp(knit_signature_name(signature), task->name) != 0) {
        error = knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: its signature names it %s", path, task->name,
            knit_signature_name(signature));
        knit_signature_free(signature);
        return error;
    }
    *ret_signature = signature;
    return 0;
}

/* What the task says of the end of its timeout, as the registry has it; *to holds the bytes. */
static int read_on_timeout(const char *path, const struct knit_task *task,
    const struct knit_signature *signature, struct knit_sentence *ret_why, struct knit_buffer *to)
{
    struct knit_signature_mismatch why;
    struct knit_substitute substitute;
    const char *reason;
    char text[128];

    if (knit_substitute_from(task->on_timeout, &substitute, &reason) != 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED, "%s: task %s: on_timeout: %s",
            path, task->name, reason);
    if (substitute.kind == KNIT_SUBSTITUTE_RESULT &&
        knit_signature_check_result(
            signature, substitute.result.bytes, substitute.result.len, &why) != 0) {
        (void)knit_signature_explain(&why, true, text, sizeof(text));
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: on_timeout: the value does not fit the signature: %s", path, task->name,
            text);
    }
    return substitute.kind != KNIT_SUBSTITUTE_NONE ? knit_substitute_put(to, &substitute) : 0;
}

static int grow_runs(struct knit_modules *modules)
{
    uint32_t capacity = modules->runs_capacity != 0 ? modules->runs_capacity * 2 : 32;
    knit_module_run **runs = realloc(modules->runs, capacity * sizeof(*runs));
    uint32_t *module_of_run;
    void **users;

    if (runs == NULL)
        return -ENOMEM;
    modules->runs = runs;
    users = realloc(modules->users, capacity * sizeof(*users));
    if (users == NULL)
        return -ENOMEM;
    modules->users = users;
    module_of_run = realloc(modules->module_of_run, capacity * sizeof(*module_of_run));
    if (module_of_run == NULL)
        return -ENOMEM;
    modules->module_of_run = module_of_run;
    modules->runs_capacity = capacity;
    return 0;
}

static int add_task(struct knit_modules *modules, uint32_t index, const struct knit_task *said,
    struct knit_sentence *ret_why)
{
    const char *path = modules->paths[index];
    uint32_t id = knit_registry_count(modules->registry);
    struct knit_task task = {0};
    struct knit_signature *signature = NULL;
    struct knit_registry_task entry;
    struct knit_buffer on_timeout;
    size_t size = modules->modules[index]->task_size;
    int error;

    memcpy(&task, said, size < sizeof(task) ? size : sizeof(task));
    error = check_task(path, &task, ret_why, &signature);
    if (error != 0)
        return error;
    knit_buffer_init(&on_timeout, KNIT_REGISTRY_ON_TIMEOUT_MAX);
    error = read_on_timeout(path, &task, signature, ret_why, &on_timeout);
    if (error != 0) {
        knit_buffer_fini(&on_timeout);
        knit_signature_free(signature);
        return error;
    }
    entry = (struct knit_registry_task){.doc = task.doc,
        .timeout_ms = task.timeout_ms,
        .hard_timeout_ms = task.hard_timeout_ms,
        .flags = task.flags,
        .module = index};
    if (on_timeout.len != 0)
        entry.on_timeout = knit_buffer_span(&on_timeout);
    if (id == modules->runs_capacity)
        error = grow_runs(modules);
    if (error == 0)
        error = knit_registry_add(modules->registry, &entry, signature);
    knit_buffer_fini(&on_timeout);
    if (error != 0)
        knit_signature_free(signature);
    if (error == KNIT_REGISTRY_E_DUPLICATE) {
        uint32_t other = knit_registry_find(modules->registry, task.name, strlen(task.name))->id;

        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a task that is found has a run. */
        const char *other_path = modules->paths[modules->module_of_run[other]];

        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: %s has a task of that name already", path, task.name, other_path);
    }
    if (error == KNIT_REGISTRY_E_FULL)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: task %s: one more than the %u tasks a pool can have", path, task.name,
            KNIT_REGISTRY_TASKS_MAX);
    if (error != 0)
        return error;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): grow_runs() has made room for it. */
    modules->runs[id] = task.run;
    modules->users[id] = task.user;
    modules->module_of_run[id] = index;
    return 0;
}

/* The tasks that a module declares, or hands over. */
static int list_tasks(const struct knit_module *module, const char *path,
    const struct knit_task *const **ret_tasks, size_t *ret_count, struct knit_sentence *ret_why)
{
    char message[512] = "";
    int error;

    *ret_tasks = NULL;
    *ret_count = 0;
    if (module->size < MODULE_SIZE_LIST || module->list == NULL) {
        *ret_tasks = module->tasks;
        if (module->tasks != NULL && module->tasks_end > module->tasks)
            *ret_count = (size_t)(module->tasks_end - module->tasks);
        return 0;
    }
    error = module->list(ret_tasks, ret_count, message, sizeof(message));
    knit_float_restore();
    message[sizeof(message) - 1] = '\0';
    if (error == 0)
        return 0;
    return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
        "%s: its list of tasks failed with %d%s%s", path, error, message[0] != '\0' ? ": " : "",
        message);
}

static int add_module(struct knit_modules *modules, uint32_t index, struct knit_sentence *ret_why)
{
    const struct knit_module *module = modules->modules[index];
    const char *path = modules->paths[index];
    const struct knit_task *const *given;
    const struct knit_task **tasks;
    size_t count;
    int error = list_tasks(module, path, &given, &count, ret_why);

    if (error != 0)
        return error;
    if (given == NULL || count == 0)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED, "%s: has no tasks", path);
    if (count > KNIT_REGISTRY_TASKS_MAX)
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
            "%s: has %zu tasks, a pool can have %u", path, count, KNIT_REGISTRY_TASKS_MAX);
    tasks = malloc(count * sizeof(*tasks));
    if (tasks == NULL)
        return -ENOMEM;
    memcpy(tasks, given, count * sizeof(*tasks));
    for (size_t i = 0; i < count && error == 0; i++) {
        if (tasks[i] == NULL || tasks[i]->name == NULL)
            error = knit_sentence_set(
                ret_why, KNIT_MODULE_E_REFUSED, "%s: one of its tasks has no name", path);
    }
    if (error == 0)
        qsort(tasks, count, sizeof(*tasks), compare_names);
    for (size_t i = 0; i < count && error == 0; i++)
        error = add_task(modules, index, tasks[i], ret_why);
    free(tasks);
    return error;
}

static void report_step(
    const struct knit_module_loading *loading, const char *what, const char *path)
{
    struct knit_sentence step;

    (void)knit_sentence_set(&step, 0, "%s %s", what, path);
    if (loading->on_step != NULL)
        loading->on_step(loading->arg, step.text);
}

/* What the sentences call it. */
#define PROGRAM_NAME "the program"

static int load_one(const struct knit_module_loading *loading, struct knit_modules *modules,
    uint32_t index, struct knit_sentence *ret_why)
{
    const uint32_t at = index - (loading->program != NULL);
    const bool is_program = loading->program != NULL && index == 0;
    int error;

    modules->paths[index] = strdup(is_program ? PROGRAM_NAME : loading->paths[at]);
    if (modules->paths[index] == NULL)
        return -ENOMEM;
    if (is_program) {
        modules->modules[index] = loading->program;
        return add_module(modules, index, ret_why);
    }
    report_step(loading, "loading", modules->paths[index]);
    error = open_module(loading->copies != NULL ? &loading->copies[at] : NULL,
        modules->paths[index], ret_why, &modules->modules[index]);
    return error == 0 ? add_module(modules, index, ret_why) : error;
}

/* A module that another pool of this process has loaded has its table already, and its tasks may
 * read it at this moment. */
static void hand_over_api(const struct knit_modules *modules, const struct knit_api *api)
{
    for (uint32_t i = 0; i < modules->count; i++) {
        if (*modules->modules[i]->api != api)
            *modules->modules[i]->api = api;
    }
}

static int load_all(const struct knit_module_loading *loading, struct knit_modules *modules,
    struct knit_sentence *ret_why)
{
    for (uint32_t i = 0; i < modules->count; i++) {
        int error = load_one(loading, modules, i, ret_why);

        if (error != 0)
            return error;
    }
    hand_over_api(modules, loading->api);
    return 0;
}

int knit_modules_load(const struct knit_module_loading *loading, struct knit_modules **ret_modules,
    struct knit_sentence *ret_why)
{
    struct knit_modules *modules = calloc(1, sizeof(*modules));
    int error = -ENOMEM;

    if (modules == NULL)
        return -ENOMEM;
    modules->count = loading->count + (loading->program != NULL);
    if (modules->count == 0) {
        knit_modules_free(modules);
        return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED, "no modules are named");
    }
    modules->registry = knit_registry_new(loading->epoch);
    modules->paths = calloc(modules->count, sizeof(*modules->paths));
    modules->modules = calloc(modules->count, sizeof(*modules->modules));
    if (modules->registry != NULL && modules->paths != NULL && modules->modules != NULL)
        error = load_all(loading, modules, ret_why);
    if (error != 0) {
        knit_modules_free(modules);
        return error;
    }
    *ret_modules = modules;
    return 0;
}

int knit_modules_bootstrap(struct knit_modules *modules, const struct knit_bootstrap *info,
    const struct knit_module_loading *loading, struct knit_sentence *ret_why)
{
    for (uint32_t i = 0; i < modules->count; i++) {
        struct knit_bootstrap own = *info;
        char message[512] = "";
        int error;

        if (modules->modules[i]->bootstrap == NULL)
            continue;
        report_step(loading, "running the bootstrap hook of", modules->paths[i]);
        own.path = modules->paths[i];
        error = modules->modules[i]->bootstrap(&own, message, sizeof(message));
        knit_float_restore();
        message[sizeof(message) - 1] = '\0';
        if (error != 0)
            return knit_sentence_set(ret_why, KNIT_MODULE_E_REFUSED,
                "%s: its bootstrap hook failed with %d%s%s", modules->paths[i], error,
                message[0] != '\0' ? ": " : "", message);
    }
    return 0;
}

const struct knit_registry *knit_modules_registry(const struct knit_modules *modules)
{
    return modules->registry;
}

void *const *knit_modules_users(const struct knit_modules *modules)
{
    return modules->users;
}

knit_module_run *knit_modules_run(const struct knit_modules *modules, uint32_t id)
{
    return modules->runs[id];
}
