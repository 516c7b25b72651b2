/* SPDX-License-Identifier: Apache-2.0 */
/* A pool's URL, taken apart. <knitting/knitting.h> describes the schemes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

enum {
    KNIT_URL_E_BAD = 1, /* ret_reason has the reason */
};

enum knit_url_scheme { KNIT_URL_TCP, KNIT_URL_UNIX, KNIT_URL_SHM };

enum { KNIT_URLS_MAX = 16 };

struct knit_url {
    enum knit_url_scheme scheme;
    bool is_encrypted; /* TCP with TLS */
    char host[256];    /* of TCP; an IPv6 address without its brackets */
    char port[6];
    char path[108]; /* of UNIX and SHM: absolute, fits a socket's address */
};

/* A place as it is shown to people, with its end: HOST:PORT, [ADDRESS]:PORT or the path. */
#define KNIT_URL_PLACE_MAX (256 + 6 + 4)
void knit_url_place(const struct knit_url *url, char ret_text[KNIT_URL_PLACE_MAX]);

/* Of one place. ret_reason: static text, written with E_BAD. Returns 0, KNIT_URL_E_BAD. */
KNIT_MUST_CHECK int knit_url_parse(
    const char *text, struct knit_url *ret_url, const char **ret_reason);

/* The same of a URL that may name several hosts of one scheme, with commas between them:
 * ret_urls[KNIT_URLS_MAX], and how many. */
KNIT_MUST_CHECK int knit_url_parse_list(
    const char *text, struct knit_url *ret_urls, uint32_t *ret_count, const char **ret_reason);
