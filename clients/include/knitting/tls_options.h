/* SPDX-License-Identifier: Apache-2.0 */
/* Part of <knitting/knitting.h>: whom a caller trusts over knits://, and who it is.
 *
 * The structure is read by knit_open() alone, which copies what it keeps: the names of the files.
 * Their content is read there and again for each later connection of the session, so files that
 * were replaced are used from then on.
 *
 * The server's certificate has to be of a trusted authority, valid today, made for servers, and to
 * name the URL's host: a name as its own or by a wildcard, an address as an address. The subject's
 * common name counts for nothing. TLS is 1.3 or 1.2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A zeroed structure, or NULL in its place, trusts the system's authorities and shows no
 * certificate. */
struct knit_tls_options {
    const char *ca_file;          /* PEM: the authorities to trust, in place of the system's */
    const char *certificate_file; /* PEM: the caller's certificate, then those up to its authority;
                                     NULL = none */
    const char *key_file;         /* PEM: its key, without a password; NULL = in certificate_file */
    const char *pin; /* "sha256//BASE64", the SHA-256 of the server's public key (as DER of the
                        SubjectPublicKeyInfo); several with ; between them: one must be it. NULL =
                        any key */
    bool pin_only;   /* the pin is all there is to verify: no authority, time or name */
    uint64_t reserved[4];
};

#ifdef __cplusplus
}
#endif
