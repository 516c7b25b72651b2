/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken goes into a request's head as it is, so nothing is that could end a line there. */
#include "server/config/collector_url.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/config/setting.h"

static int refuse(const char *key, const char *text, struct knit_sentence *why)
{
    return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
        "%s: expected http://HOST:PORT/PATH, as %s, not '%s'", key, KNIT_COLLECTOR_EXAMPLE, text);
}

static bool is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~' || strchr("\"<>\\^`{|}@#", *text) != NULL)
            return false;
    return true;
}

static bool is_port(const char *text)
{
    const size_t len = strspn(text, "0123456789");
    const unsigned long port = strtoul(text, NULL, 10);

    return text[len] == '\0' && len > 0 && len < sizeof(((struct knit_collector_url *)0)->port) &&
           port > 0 && port <= UINT16_MAX;
}

static bool copy(char *to, size_t size, const char *from, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

/* HOST or HOST:PORT; a number of IPv6, which alone has colons, in brackets. */
static bool split(struct knit_collector_url *url)
{
    const char *host = url->authority, *end = strrchr(host, ':'), *port = "80";
    const char *bracket = strchr(host, ']');
    size_t len;

    if (end != NULL && bracket != NULL && end < bracket)
        end = NULL;
    len = end != NULL ? (size_t)(end - host) : strlen(host);
    if (end != NULL)
        port = end + 1;
    if (!is_port(port))
        return false;
    (void)snprintf(url->port, sizeof(url->port), "%s", port);
    if (host[0] == '[' && host[len - 1] == ']' && memchr(host, ':', len) != NULL)
        host++, len -= 2;
    else if (memchr(host, ':', len) != NULL)
        return false;
    return copy(url->host, sizeof(url->host), host, len) && strpbrk(url->host, "[]") == NULL;
}

int knit_collector_url_parse(const char *key, const char *text, struct knit_collector_url *ret_url,
    struct knit_sentence *why)
{
    const char *begin = text + strlen("http://");
    size_t len;

    if (strncmp(text, "https://", strlen("https://")) == 0)
        return knit_sentence_set(why, KNIT_SETTING_E_REFUSED,
            "%s: spans go by http alone, to a collector beside the daemon, as %s, which sends them "
            "on by https; not '%s'",
            key, KNIT_COLLECTOR_EXAMPLE, text);
    if (strncmp(text, "http://", strlen("http://")) != 0 || !is_plain(text))
        return refuse(key, text, why);
    len = strcspn(begin, "/?");
    *ret_url = (struct knit_collector_url){.path = "/v1/traces"};
    if (!copy(ret_url->authority, sizeof(ret_url->authority), begin, len) || !split(ret_url) ||
        begin[len] == '?' ||
        (begin[len] == '/' && begin[len + 1] != '\0' &&
            !copy(ret_url->path, sizeof(ret_url->path), begin + len, strlen(begin + len))))
        return refuse(key, text, why);
    return 0;
}
