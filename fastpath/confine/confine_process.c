/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the steps:
 *
 *  1. Limits, which need no privilege. The limit of descriptors comes later, when the worker has
 *     announced itself.
 *  2. No new privileges, which Landlock and seccomp require.
 *  3. Landlock.
 *  4. Capabilities, which opening the listed paths in step 3 may have needed.
 *  5. seccomp, which closes the system calls of all steps before.
 *
 * If the policy is required, a step that fails refuses the start. Otherwise each step does what it
 * can, and what is missing is reported.
 */
#include "fastpath/confine/confine_private.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int limit(int resource, uint64_t value, const char *name, struct knit_sentence *why)
{
    struct rlimit limit;

    if (value == KNIT_CONFINE_NO_LIMIT)
        return 0;
    if (getrlimit((unsigned)resource, &limit) != 0)
        return knit_sentence_append(
            why, KNIT_CONFINE_E_REFUSED, "no limit can be put on %s: %s", name, strerror(errno));
    /* A lower limit of the host stays. */
    if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > value)
        limit.rlim_max = value;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit((unsigned)resource, &limit) != 0)
        return knit_sentence_append(
            why, KNIT_CONFINE_E_REFUSED, "no limit can be put on %s: %s", name, strerror(errno));
    return 0;
}

/* RLIMIT_DATA counts private memory. RLIMIT_AS would count the shared arenas of all sessions too.
 * The shadow memory of sanitizers is private and larger than any limit. */
static int apply_limits(const struct knit_confine_rules *rules, struct knit_sentence *why)
{
    int error = 0;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    error = limit(RLIMIT_DATA, rules->memory_max_bytes, "memory", why);
#endif
    if (error == 0)
        error = limit(RLIMIT_CORE, rules->core_max_bytes, "core dumps", why);
    if (error == 0)
        error = limit(RLIMIT_FSIZE, rules->file_max_bytes, "the size of files", why);
    return error;
}

/* A root user keeps its uid and its files, and nothing else. A bounding set that cannot be emptied
 * does no harm: with no_new_privs an exec gains nothing from it. */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long capability = 0; capability < 64; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    return syscall(SYS_capset, &head, none) == 0 ? 0 : -errno;
}

static void make_plan(const struct knit_confine_policy *policy, const char *const *modules,
    struct knit_confine_plan *ret_plan)
{
    const struct knit_confine_rules *rules = &policy->rules;
    bool is_custom = rules->profile == KNIT_CONFINE_CUSTOM;
    bool may_connect_tcp = is_custom && knit_confine_has_ports(&rules->connect);
    bool may_listen_tcp = is_custom && knit_confine_has_ports(&rules->listen);
    bool has_others = is_custom && (rules->may_udp || rules->may_unix);
    struct knit_confine_plan plan = {.policy = policy, .modules = modules};

    plan.abi = knit_confine_files_abi(&plan.abi_error);
    plan.may_tcp = may_connect_tcp || may_listen_tcp;
    plan.may_connect = may_connect_tcp || has_others;
    plan.may_bind = may_listen_tcp || has_others;
    /* seccomp cannot read ports, so it does not help where one call serves open and closed ones. */
    plan.limits_tcp = plan.may_tcp && ((plan.may_connect && !rules->connect.is_any) ||
                                          (plan.may_bind && !rules->listen.is_any));
    *ret_plan = plan;
}

static const char *reason_of(int error)
{
    if (error == ENOSYS)
        return "this kernel has no Landlock (Linux 5.13 is the first)";
    if (error == EOPNOTSUPP)
        return "Landlock is switched off in this kernel (boot parameter lsm=)";
    return strerror(error);
}

/* Landlock, if the kernel has it. Returns 0, or KNIT_CONFINE_E_REFUSED when the policy itself is
 * wrong. What the kernel lacks is appended to `why`. */
static int apply_files(const struct knit_confine_plan *plan, struct knit_confine_status *force,
    struct knit_sentence *why)
{
    struct knit_sentence reason = {""};
    int error;

    force->landlock_abi = plan->abi;
    if (plan->abi == 0) {
        (void)knit_sentence_append(
            why, 0, "files are not confined: %s", reason_of(plan->abi_error));
        if (plan->limits_tcp)
            (void)knit_sentence_append(why, 0, "neither are ports of TCP");
        return 0;
    }
    error = knit_confine_files(plan, &reason);
    if (error > 0)
        return knit_sentence_append(why, KNIT_CONFINE_E_REFUSED, "%s", reason.text);
    if (error < 0) {
        (void)knit_sentence_append(
            why, 0, "files are not confined: Landlock failed: %s", strerror(-error));
        return 0;
    }
    force->parts |= KNIT_CONFINE_FILES;
    if (plan->abi >= KNIT_LANDLOCK_PORTS)
        force->parts |= KNIT_CONFINE_PORTS;
    else if (plan->limits_tcp)
        (void)knit_sentence_append(why, 0,
            "ports of TCP are not confined: this kernel's Landlock does not know them "
            "(Linux 6.7 is the first)");
    if (plan->abi >= KNIT_LANDLOCK_SCOPES)
        force->parts |= KNIT_CONFINE_SCOPES;
    return 0;
}

static int apply_all(
    struct knit_confine_plan *plan, struct knit_confine_status *force, struct knit_sentence *why)
{
    int error;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        (void)knit_sentence_append(why, 0, "privileges can be gained: %s", strerror(errno));
    error = apply_files(plan, force, why);
    if (error != 0)
        return error;
    if ((force->parts & KNIT_CONFINE_FILES) == 0)
        plan->abi = 0;
    error = drop_capabilities();
    if (error == 0)
        force->parts |= KNIT_CONFINE_PRIVILEGES;
    else
        (void)knit_sentence_append(why, 0, "capabilities are kept: %s", strerror(-error));
    error = knit_confine_calls(plan);
    if (error == 0)
        force->parts |= KNIT_CONFINE_CALLS;
    else
        (void)knit_sentence_append(why, 0,
            "system calls are not confined, the network among them: seccomp failed: %s",
            strerror(-error));
    return 0;
}

int knit_confine_apply(const struct knit_confine_policy *policy, const char *const *modules,
    struct knit_confine_status *ret_force, struct knit_sentence *ret_missing)
{
    struct knit_confine_plan plan;
    int error = knit_confine_check(policy, ret_missing);

    *ret_force = (struct knit_confine_status){.profile = policy->rules.profile};
    if (error == 0)
        error = apply_limits(&policy->rules, ret_missing);
    if (error != 0 || policy->rules.profile == KNIT_CONFINE_UNSAFE)
        return error;
    make_plan(policy, modules, &plan);
    error = apply_all(&plan, ret_force, ret_missing);
    if (error == 0 && !knit_sentence_is_empty(ret_missing) && policy->rules.is_required)
        error = KNIT_CONFINE_E_REFUSED;
    return error;
}

int knit_confine_limit_files(const struct knit_confine_rules *rules, struct knit_sentence *ret_why)
{
    ret_why->text[0] = '\0';
    return limit(RLIMIT_NOFILE, rules->files_max, "open files", ret_why);
}

int knit_confine_host(uint32_t *ret_did)
{
    uint32_t did = 0;
    int error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? drop_capabilities() : -errno;

    if (error == 0) {
        did = KNIT_CONFINE_PRIVILEGES;
        error = knit_confine_calls_of_host();
    }
    if (error == 0)
        did |= KNIT_CONFINE_CALLS;
    if (ret_did != NULL)
        *ret_did = did;
    return error;
}
