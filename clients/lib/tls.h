/* SPDX-License-Identifier: Apache-2.0 */
/* What the encrypted connections of one session have in common: whom they trust, who the caller is,
 * and what was kept to resume.
 *
 * The files are read at the beginning of each connection, so that a session that lives long goes on
 * with a certificate that was replaced. What was kept is resumed only by a connection that trusts
 * and shows the very same certificates, since a resumed one brings no chain to verify.
 *
 * Threads: one at a time. Nothing blocks, but for the files.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "clients/lib/url.h"

struct knit_error;
struct knit_tls;
struct knit_tls_options;
struct knit_transport;

/* Copies options (NULL: the system's authorities, and no certificate of the caller's), and reads
 * the files once, to name what is wrong with them. Returns KNIT_OK; KNIT_BAD_ARGUMENT, also where
 * the library was built without TLS; KNIT_INTERNAL. */
KNIT_MUST_CHECK int knit_tls_new(
    const struct knit_tls_options *options, struct knit_tls **ret, struct knit_error *ret_error);

/* After its connections. NULL is allowed; returns NULL. */
struct knit_tls *knit_tls_free(struct knit_tls *tls);

/* From now on a plain transport, of which nothing was sent or received, encrypts. The handshake is
 * part of what is sent and received first. On failure it stays as it is. Returns KNIT_OK, or the
 * code of an error. */
KNIT_MUST_CHECK int knit_transport_begin_tls(struct knit_transport *transport, struct knit_tls *tls,
    const struct knit_url *url, struct knit_error *ret_error);
