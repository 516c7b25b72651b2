/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request by HTTP/1, as far as the admin face needs it: GET and HEAD, whose answers
 * depend on the path alone.
 *
 * The grammar is taken strictly, since no client that this is for strays from it: lines end with
 * CRLF, a field has no blank before its colon and no continuation, a target begins with '/', and
 * there is no body. Two fields decide about safety. Host must be a number or a name that is known:
 * a page of the web that had its own name resolve to this machine would be of the same origin
 * otherwise. Sec-Fetch-Site tells what a browser sends for a page of somebody else.
 *
 * Security: the bytes are hostile. Pure functions; what they return points into the bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"

#define KNIT_HTTP_HEAD_MAX 8192u

enum {
    KNIT_HTTP_E_SHORT = 1, /* the head is not all there */
    /* Or the status to refuse it with: */
    KNIT_HTTP_BAD_REQUEST = 400,
    KNIT_HTTP_FORBIDDEN = 403,
    KNIT_HTTP_NOT_FOUND = 404,
    KNIT_HTTP_METHOD_NOT_ALLOWED = 405,
    KNIT_HTTP_MISDIRECTED = 421,
    KNIT_HTTP_HEAD_TOO_LARGE = 431,
    KNIT_HTTP_UNAVAILABLE = 503,
};

struct knit_http_request {
    bool is_head;
    bool is_cross_site;
    struct knit_span path; /* from its '/' on, without the query */
    struct knit_span host; /* absent: none was given, which HTTP/1.0 may do */
};

/* Returns 0, KNIT_HTTP_E_SHORT, or the status. */
KNIT_MUST_CHECK int knit_http_parse(
    const uint8_t *bytes, size_t len, struct knit_http_request *ret_request);

/* Whether a Host is the number of an address, localhost, or one of the names (ended by NULL, or
 * NULL: none), with a port or without. */
bool knit_http_host_is_known(struct knit_span host, const char *const *names);

/* What follows a status: "Not Found". Static text. */
const char *knit_http_reason(int status);
