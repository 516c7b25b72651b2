/* SPDX-License-Identifier: Apache-2.0 */
/* A permission that is given is required: on a kernel that cannot enforce it the daemon refuses to
 * start. The default is enforced as far as the kernel can, so that the daemon starts everywhere.
 */
#include "server/config/confinement.h"

enum permission { PERMISSION_STRICT, PERMISSION_CUSTOM, PERMISSION_UNSAFE };

_Static_assert(KNIT_AUTO == KNIT_CONFINE_NO_LIMIT, "core_max_bytes, left to us, is no limit");

static const enum knit_confine_profile profiles[] = {
    [PERMISSION_STRICT] = KNIT_CONFINE_STRICT,
    [PERMISSION_CUSTOM] = KNIT_CONFINE_CUSTOM,
    [PERMISSION_UNSAFE] = KNIT_CONFINE_UNSAFE,
};

static uint64_t limit_of(uint64_t value)
{
    return value != 0 ? value : KNIT_CONFINE_NO_LIMIT;
}

static struct knit_permission permission_of(const struct knit_settings *settings)
{
    return (struct knit_permission){.owner = "worker.",
        .profile = profiles[settings->permission],
        .is_required = knit_setting_is_given(settings, "worker", "permission"),
        .read_paths = knit_list_words(&settings->read_paths),
        .write_paths = knit_list_words(&settings->write_paths),
        .connect_ports = knit_list_words(&settings->connect_ports),
        .listen_ports = knit_list_words(&settings->listen_ports),
        .udp_sockets = settings->udp_sockets != 0,
        .unix_sockets = settings->unix_sockets != 0,
        .exec_programs = settings->exec_programs != 0,
        .memory_max_bytes = limit_of(settings->memory_max_bytes),
        .files_max = limit_of(settings->files_max),
        .core_max_bytes = settings->core_max_bytes,
        .file_max_bytes = limit_of(settings->file_max_bytes)};
}

int knit_confinement_check(const struct knit_settings *settings, struct knit_sentence *why)
{
    const struct knit_permission permission = permission_of(settings);

    return knit_permission_check(&permission, why);
}

void knit_confinement_resolve(struct knit_settings *settings)
{
    if (settings->files_max == KNIT_AUTO)
        settings->files_max = knit_permission_files_preset();
    /* KNIT_AUTO and no limit are one value, which is what `unsafe` wants. */
    if (settings->core_max_bytes == KNIT_AUTO && settings->permission != PERMISSION_UNSAFE)
        settings->core_max_bytes = 0;
}

int knit_confinement_policy(const struct knit_settings *settings,
    struct knit_confine_policy *ret_policy, struct knit_sentence *why)
{
    const struct knit_permission permission = permission_of(settings);

    return knit_permission_policy(&permission, ret_policy, why);
}
