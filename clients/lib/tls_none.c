/* SPDX-License-Identifier: Apache-2.0 */
/* The library without OpenSSL: knits:// is refused by name. */
#include <stdlib.h>

#include "clients/lib/error.h"
#include "clients/lib/tls.h"

int knit_tls_new(
    const struct knit_tls_options *options, struct knit_tls **ret, struct knit_error *ret_error)
{
    (void)options, (void)ret;
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "knits:// needs TLS, which this library was built without");
}

struct knit_tls *knit_tls_free(struct knit_tls *tls)
{
    (void)tls;
    return NULL;
}

/* There is no struct knit_tls to call it with. */
int knit_transport_begin_tls(struct knit_transport *transport, struct knit_tls *tls,
    const struct knit_url *url, struct knit_error *ret_error)
{
    (void)transport, (void)url;
    return knit_tls_new(NULL, &tls, ret_error);
}
