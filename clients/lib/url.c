/* SPDX-License-Identifier: Apache-2.0 */
/* The three schemes have nothing in common behind "://", so each part is cut out by hand. Nothing
 * is decoded: a path is taken as it stands, percent signs included. */
#include "clients/lib/url.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static int bad(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return KNIT_URL_E_BAD;
}

static int parse_port(const char *text, struct knit_url *url, const char **ret_reason)
{
    unsigned long port = 0;

    if (strchr(text, '/') != NULL)
        return bad(ret_reason, "behind the host only :PORT may stand, and no path");
    if (text[strspn(text, "0123456789")] == '\0' && strlen(text) < sizeof(url->port))
        port = strtoul(text, NULL, 10);
    if (port < 1 || port > 65535)
        return bad(ret_reason, "the port must be a number from 1 to 65535");
    snprintf(url->port, sizeof(url->port), "%lu", port);
    return 0;
}

static int parse_authority(const char *text, struct knit_url *url, const char **ret_reason)
{
    const char *host = text, *end;
    size_t len;

    if (text[0] == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (end == NULL)
            return bad(ret_reason, "the bracket of the IPv6 address is not closed");
        len = (size_t)(end - host);
        end++;
    } else {
        len = strcspn(host, ":/");
        end = host + len;
        if (strncmp(end, "://", 3) == 0)
            return bad(ret_reason,
                "knit:// stands once, before the first host, as in knit://a:5648,b:5648");
        if (end[0] == ':' && strchr(end + 1, ':') != NULL)
            return bad(ret_reason, "an IPv6 address stands in brackets, as in knit://[::1]:5648");
    }
    if (len == 0 || len >= sizeof(url->host))
        return bad(ret_reason, len == 0 ? "no host is named" : "the host's name is too long");
    if (strcspn(host, " \t\r\n") < len)
        return bad(ret_reason, "a host has no blanks, and none stand beside it");
    memcpy(url->host, host, len);
    url->host[len] = '\0';

    if (strcmp(end, "") == 0 || strcmp(end, "/") == 0)
        return parse_port(url->is_encrypted ? "5649" : "5648", url, ret_reason);
    if (end[0] == ':')
        return parse_port(end + 1, url, ret_reason);
    return bad(ret_reason, "behind the host only :PORT may stand, and no path");
}

static int parse_path(const char *text, struct knit_url *url, const char **ret_reason)
{
    static_assert(sizeof(url->path) == sizeof(((struct sockaddr_un *)0)->sun_path), "one size");

    if (text[0] != '/')
        return bad(ret_reason, "the path must be absolute, as in /run/knitting/knitting.sock");
    if (strlen(text) >= sizeof(url->path))
        return bad(ret_reason, "the path is longer than the 107 bytes a socket may have");
    memcpy(url->path, text, strlen(text) + 1);
    return 0;
}

int knit_url_parse(const char *text, struct knit_url *ret_url, const char **ret_reason)
{
    static const struct {
        const char *prefix;
        enum knit_url_scheme scheme;
    } schemes[] = {
        {"knit://", KNIT_URL_TCP},
        {"knits://", KNIT_URL_TCP},
        {"unix://", KNIT_URL_UNIX},
        {"shm://", KNIT_URL_SHM},
    };
    struct knit_url url = {0};
    int r;

    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t len = strlen(schemes[i].prefix);

        if (strncmp(text, schemes[i].prefix, len) != 0)
            continue;
        url.scheme = schemes[i].scheme;
        url.is_encrypted = strcmp(schemes[i].prefix, "knits://") == 0;
        r = url.scheme == KNIT_URL_TCP ? parse_authority(text + len, &url, ret_reason)
                                       : parse_path(text + len, &url, ret_reason);
        if (r == 0)
            *ret_url = url;
        return r;
    }
    return bad(ret_reason, "it must begin with knit://, knits://, unix:// or shm://");
}

void knit_url_place(const struct knit_url *url, char ret_text[KNIT_URL_PLACE_MAX])
{
    const bool is_bracketed = strchr(url->host, ':') != NULL;

    if (url->scheme != KNIT_URL_TCP)
        (void)snprintf(ret_text, KNIT_URL_PLACE_MAX, "%s", url->path);
    else
        (void)snprintf(ret_text, KNIT_URL_PLACE_MAX, "%s%s%s:%s", is_bracketed ? "[" : "",
            url->host, is_bracketed ? "]" : "", url->port);
}

int knit_url_parse_list(
    const char *text, struct knit_url *ret_urls, uint32_t *ret_count, const char **ret_reason)
{
    const char *begin = strstr(text, "://");
    const size_t prefix = begin != NULL ? (size_t)(begin - text) + 3 : 0;
    uint32_t count = 0;
    int r = 0;

    *ret_count = 1;
    if (strncmp(text, "knit", 4) != 0 || prefix == 0 || strchr(text + prefix, ',') == NULL)
        return knit_url_parse(text, &ret_urls[0], ret_reason);
    for (const char *at = text + prefix; r == 0; at++) {
        const size_t len = strcspn(at, ",");
        char piece[sizeof(ret_urls->host) + 32];

        if (count == KNIT_URLS_MAX)
            return bad(ret_reason, "more than 16 hosts are named");
        if (prefix + len >= sizeof(piece))
            return bad(ret_reason, "the host's name is too long");
        memcpy(piece, text, prefix);
        memcpy(piece + prefix, at, len);
        piece[prefix + len] = '\0';
        r = knit_url_parse(piece, &ret_urls[count], ret_reason);
        count++;
        at += len;
        if (*at == '\0')
            break;
    }
    *ret_count = count;
    return r;
}
