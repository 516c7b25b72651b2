/* SPDX-License-Identifier: Apache-2.0 */
/* A NUL inside a name is no printable character, so a name cannot be cut short by one. */
#include "server/policy/certificate.h"

#include <openssl/x509v3.h>
#include <stdio.h>

static bool is_printable(const unsigned char *bytes, int len)
{
    for (int i = 0; i < len; i++)
        if (bytes[i] <= ' ' || bytes[i] > '~')
            return false;
    return len > 0;
}

/* The first name of that kind. */
static const ASN1_STRING *find(const GENERAL_NAMES *names, int kind)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == kind)
            return name->d.ia5;
    }
    return NULL;
}

bool knit_certificate_name(X509 *leaf, char ret_name[KNIT_PRINCIPAL_NAME_MAX])
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    const ASN1_STRING *uri = names != NULL ? find(names, GEN_URI) : NULL;
    const ASN1_STRING *found = names != NULL && uri == NULL ? find(names, GEN_DNS) : uri;
    char name[KNIT_PRINCIPAL_NAME_MAX];
    int len = -1;

    if (found != NULL && is_printable(ASN1_STRING_get0_data(found), ASN1_STRING_length(found)))
        len = snprintf(name, sizeof(name), "cert:%s:%.*s", uri != NULL ? "uri" : "dns",
            ASN1_STRING_length(found), (const char *)ASN1_STRING_get0_data(found));
    GENERAL_NAMES_free(names);
    if (len < 0 || (size_t)len >= sizeof(name))
        return false;
    (void)snprintf(ret_name, KNIT_PRINCIPAL_NAME_MAX, "%s", name);
    return true;
}
