/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever can be seen to be wrong before anything is made, in the order in which a start would
 * come to it. */
#include "server/config/machine.h"
#include "server/daemon/admin.h"
#include "server/daemon/certificates.h"
#include "server/daemon/descriptors.h"
#include "server/daemon/identity.h"
#include "server/daemon/ready_file.h"
#include "server/daemon/rules.h"
#include "server/daemon/service.h"
#include "server/daemon/workers.h"
#include "server/net/listening.h"
#include "server/policy/access.h"

int knit_service_check(const struct knit_settings *settings, const char *ready_file,
    struct knit_log *log, struct knit_sentence *why)
{
    struct knit_access access = {0};
    struct knit_descriptors descriptors;
    int r = knit_machine_check(why);

    if (r == 0)
        r = knit_access_init(&access, settings, why);
    if (r == 0)
        r = knit_identity_check(settings, why);
    if (r == 0)
        r = knit_rules_check(settings, why);
    if (r == 0)
        r = knit_listening_check(settings, log, why);
    if (r == 0)
        r = knit_admin_check(settings, why);
    if (r == 0)
        r = knit_certificates_check(settings, log, why);
    if (r == 0)
        r = knit_workers_check(settings, why);
    if (r == 0)
        r = knit_ready_file_check(ready_file, why);
    knit_descriptors_raise();
    if (r == 0)
        r = knit_descriptors_deal(settings, &descriptors, why);
    knit_access_fini(&access);
    return r;
}
