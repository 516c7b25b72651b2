/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on a stream socket, as a transport.
 *
 * A stream is one side of a handshake first, which handshakes.h moves on, then what a transport
 * reads and writes through.
 *
 * - Reading takes from the library until it has nothing whole any more: what it has read ahead of
 *   the socket brings no event.
 * - The stream ends (KNIT_TRANSPORT_END) when the peer says so by close_notify. An end of the
 *   socket alone is KNIT_TRANSPORT_BROKEN, since anybody on the way can make one.
 * - A record is written for each 16 KiB, or for all that waits if that is less.
 * - No signal is raised by a peer that is gone.
 *
 * Limits: 64 KiB from the peer before its handshake is over; after it 32 messages of the protocol
 * that are no data (new keys and ours in return, alerts), and as many with each MiB of data.
 *
 * Threads: its loop's.
 */
#pragma once

#include <openssl/types.h>

#include "server/net/transport.h"

/* Takes `ssl` over, on a socket that does not block and that it does not own; NULL when there is no
 * memory: then nothing is left of `ssl` either. */
struct knit_tls_stream *knit_tls_stream_new(SSL *ssl, int fd);

/* Its socket stays open. Accepts NULL. */
void knit_tls_stream_free(struct knit_tls_stream *stream);

/* Goes on with the handshake as far as it gets. OK: it is over. BROKEN: it has failed; the peer has
 * been told why, and knit_tls_context_reason() says it. */
KNIT_MUST_CHECK enum knit_transport_result knit_tls_stream_handshake(
    struct knit_tls_stream *stream);

/* Of one whose handshake has failed: what was wrong with the peer's certificate, or NULL. */
const char *knit_tls_stream_flaw(const struct knit_tls_stream *stream);

/* Whether its handshake, which is over, went on with what an earlier one has come to. */
bool knit_tls_stream_is_resumed(const struct knit_tls_stream *stream);

/* The certificate that its peer has the key of, or NULL. Borrowed. */
X509 *knit_tls_stream_peer(const struct knit_tls_stream *stream);

/* Takes both over; the handshake is over. */
struct knit_transport knit_transport_tls(int fd, struct knit_tls_stream *stream);
