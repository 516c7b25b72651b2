/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a client's certificate names.
 *
 * It is the first URI among its alternative names, else the first DNS name there, as it stands:
 * nothing of it is interpreted, and the subject is not looked at, since it is text for people. One
 * that is no printable ASCII without blanks, or too long, names nobody.
 *
 * Threads: any.
 * Security: the certificate has been verified, and what it says is what its authority has signed.
 */
#pragma once

#include <openssl/types.h>
#include <stdbool.h>

#include <knitting/code.h>

#include "server/policy/principals.h"

/* "cert:uri:..." or "cert:dns:...". False: it names nobody. */
KNIT_MUST_CHECK bool knit_certificate_name(X509 *leaf, char ret_name[KNIT_PRINCIPAL_NAME_MAX]);
