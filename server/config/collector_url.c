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
    char *end;
    const unsigned long port = strtoul(text, &end, 10);

    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && port > 0 && port <= UINT16_MAX;
}

static bool copy(char *to, size_t size, const char *from, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

/* HOST or HOST:PORT; a number of IPv6 in brackets. */
static bool split(struct knit_collector_url *url)
{
    const char *host = url->authority, *end = strrchr(host, ':');
    const char *bracket = strchr(host, ']');
    size_t len;

    if (end != NULL && bracket != NULL && end < bracket)
        end = NULL;
    len = end != NULL ? (size_t)(end - host) : strlen(host);
    if (host[0] == '[') {
        if (bracket == NULL || bracket != host + len - 1)
            return false;
        host++;
        len -= 2;
    } else if (memchr(host, ':', len) != NULL) {
        return false;
    }
    (void)snprintf(url->port, sizeof(url->port), "%s", end != NULL ? end + 1 : "80");
    return copy(url->host, sizeof(url->host), host, len) &&
           is_port(end != NULL ? end + 1 : url->port);
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
