/* SPDX-License-Identifier: Apache-2.0 */
/* A URL of a pool. Oracle: a refusal has its reason; what was accepted names a host and a port in
 * their range, or an absolute path, and the URL put together from these parts is the same place.
 */
#include <stdlib.h>
#include <string.h>

#include "clients/lib/url.h"
#include "tests/fuzz/target.h"

static void assert_again(const struct knit_url *url)
{
    static const char *const schemes[] = {"knit://", "unix://", "shm://"};
    char text[sizeof(url->host) + sizeof(url->path) + 20];
    struct knit_url again;
    const char *reason;

    if (url->scheme == KNIT_URL_TCP)
        snprintf(text, sizeof(text), "%s%s%s%s:%s", schemes[url->scheme],
            strpbrk(url->host, ":/") != NULL ? "[" : "", url->host,
            strpbrk(url->host, ":/") != NULL ? "]" : "", url->port);
    else
        snprintf(text, sizeof(text), "%s%s", schemes[url->scheme], url->path);
    /* Within brackets one may open, and never closes; a host of names does not begin with one. */
    if (url->host[0] == '[')
        return;
    KNIT_FUZZ_CHECK(knit_url_parse(text, &again, &reason) == 0);
    KNIT_FUZZ_CHECK(again.scheme == url->scheme && strcmp(again.host, url->host) == 0);
    KNIT_FUZZ_CHECK(strcmp(again.port, url->port) == 0 && strcmp(again.path, url->path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *text = strndup((const char *)bytes, len);
    const char *reason = NULL;
    struct knit_url url;

    if (text == NULL)
        return 0;
    if (knit_url_parse(text, &url, &reason) != 0) {
        KNIT_FUZZ_CHECK(reason != NULL && reason[0] != '\0');
    } else if (url.scheme == KNIT_URL_TCP) {
        long port = strtol(url.port, NULL, 10);

        KNIT_FUZZ_CHECK(url.host[0] != '\0' && url.path[0] == '\0');
        KNIT_FUZZ_CHECK(port >= 1 && port <= 65535);
        KNIT_FUZZ_CHECK(strspn(url.port, "0123456789") == strlen(url.port));
        assert_again(&url);
    } else {
        KNIT_FUZZ_CHECK(url.path[0] == '/' && url.host[0] == '\0');
        assert_again(&url);
    }
    free(text);
    return 0;
}
