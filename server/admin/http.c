/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the head is looked for first, so everything behind that stands on lines that are
 * whole. */
#include "server/admin/http.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

/* What is left of the head: lines, each with its CRLF. */
struct lines {
    const uint8_t *at;
    const uint8_t *end;
};

static bool is_token(struct knit_span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!isalnum(text.bytes[i]) && strchr("!#$%&'*+-.^_`|~", text.bytes[i]) == NULL)
            return false;
    return text.len > 0 && memchr(text.bytes, '\0', text.len) == NULL;
}

static bool is_text(struct knit_span text, const char *word)
{
    return text.len == strlen(word) && strncasecmp((const char *)text.bytes, word, text.len) == 0;
}

/* Without its CRLF. False: there is no line, or it holds what no line does. */
static bool take_line(struct lines *lines, struct knit_span *ret_line)
{
    const uint8_t *start = lines->at, *at = start;

    while (at < lines->end && (*at >= ' ' || *at == '\t') && *at != 0x7f)
        at++;
    if (lines->end - at < 2 || at[0] != '\r' || at[1] != '\n')
        return false;
    lines->at = at + 2;
    *ret_line = knit_span(start, (size_t)(at - start));
    return true;
}

/* What stands before the byte, which goes as well. False: there is no such byte. */
static bool take_until(struct knit_span *rest, uint8_t byte, struct knit_span *ret_part)
{
    const uint8_t *at = rest->len > 0 ? memchr(rest->bytes, byte, rest->len) : NULL;

    if (at == NULL)
        return false;
    *ret_part = knit_span(rest->bytes, (size_t)(at - rest->bytes));
    *rest = knit_span(at + 1, rest->len - ret_part->len - 1);
    return true;
}

static struct knit_span trim(struct knit_span text)
{
    while (text.len > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\t'))
        text = knit_span(text.bytes + 1, text.len - 1);
    while (text.len > 0 && (text.bytes[text.len - 1] == ' ' || text.bytes[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* The method, the path and whether it is HTTP/1.0. */
static bool read_request_line(struct knit_span line, struct knit_http_request *request,
    struct knit_span *ret_method, bool *ret_is_old)
{
    struct knit_span target;

    if (!take_until(&line, ' ', ret_method) || !is_token(*ret_method) ||
        !take_until(&line, ' ', &target) || target.len == 0 || target.bytes[0] != '/')
        return false;
    for (size_t i = 0; i < target.len; i++)
        if (target.bytes[i] <= ' ' || target.bytes[i] > '~')
            return false;
    request->path = target;
    (void)take_until(&target, '?', &request->path);
    *ret_is_old = line.len == 8 && memcmp(line.bytes, "HTTP/1.0", 8) == 0;
    return *ret_is_old || (line.len == 8 && memcmp(line.bytes, "HTTP/1.1", 8) == 0);
}

static bool read_field(struct knit_span line, struct knit_http_request *request, bool *ret_has_body)
{
    struct knit_span name, value;

    if (!take_until(&line, ':', &name) || !is_token(name))
        return false;
    value = trim(line);
    if (is_text(name, "host")) {
        if (request->host.bytes != NULL)
            return false;
        request->host = value;
    } else if (is_text(name, "sec-fetch-site")) {
        request->is_cross_site = request->is_cross_site || is_text(value, "cross-site");
    } else if (is_text(name, "transfer-encoding") ||
               (is_text(name, "content-length") && !is_text(value, "0"))) {
        *ret_has_body = true;
    }
    return true;
}

int knit_http_parse(const uint8_t *bytes, size_t len, struct knit_http_request *ret_request)
{
    struct knit_http_request request = {.is_head = false};
    size_t room = len < KNIT_HTTP_HEAD_MAX ? len : KNIT_HTTP_HEAD_MAX;
    const uint8_t *end = room > 0 ? memmem(bytes, room, "\r\n\r\n", 4) : NULL;
    struct lines lines = {bytes, end != NULL ? end + 2 : bytes};
    struct knit_span line, method;
    bool is_old = false, has_body = false;

    if (end == NULL)
        return len < KNIT_HTTP_HEAD_MAX ? KNIT_HTTP_E_SHORT : KNIT_HTTP_HEAD_TOO_LARGE;
    if (!take_line(&lines, &line) || !read_request_line(line, &request, &method, &is_old))
        return KNIT_HTTP_BAD_REQUEST;
    while (lines.at < lines.end)
        if (!take_line(&lines, &line) || !read_field(line, &request, &has_body))
            return KNIT_HTTP_BAD_REQUEST;
    request.is_head = method.len == 4 && memcmp(method.bytes, "HEAD", 4) == 0;
    if (!request.is_head && (method.len != 3 || memcmp(method.bytes, "GET", 3) != 0))
        return KNIT_HTTP_METHOD_NOT_ALLOWED;
    if (has_body || (request.host.bytes == NULL && !is_old))
        return KNIT_HTTP_BAD_REQUEST;
    *ret_request = request;
    return 0;
}

/* ---- hosts --------------------------------------------------------------------------------- */

/* Whether it is nothing, or a colon and the digits of a port. */
static bool is_port(struct knit_span text)
{
    if (text.len == 0)
        return true;
    for (size_t i = 1; i < text.len; i++)
        if (!isdigit(text.bytes[i]))
            return false;
    return text.bytes[0] == ':' && text.len <= 6;
}

bool knit_http_host_is_known(struct knit_span host, const char *const *names)
{
    const bool is_v6 = host.len > 0 && host.bytes[0] == '[';
    const uint8_t *end = host.len > 0 ? memchr(host.bytes, is_v6 ? ']' : ':', host.len) : NULL;
    size_t len = end != NULL ? (size_t)(end - host.bytes) : host.len;
    struct knit_span name = knit_span(host.bytes, len);
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (is_v6 && end == NULL)
        return false;
    if (is_v6)
        name = knit_span(host.bytes + 1, len - 1), len++;
    if (!is_port(knit_span(host.bytes + len, host.len - len)))
        return false;
    for (size_t i = 0; !is_v6 && names != NULL && names[i] != NULL; i++)
        if (is_text(name, names[i]))
            return true;
    if (!is_v6 && is_text(name, "localhost"))
        return true;
    if (name.len == 0 || name.len >= sizeof(text) || memchr(name.bytes, '\0', name.len) != NULL)
        return false;
    memcpy(text, name.bytes, name.len);
    text[name.len] = '\0';
    return inet_pton(is_v6 ? AF_INET6 : AF_INET, text, &address) == 1;
}

const char *knit_http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case KNIT_HTTP_BAD_REQUEST:
        return "Bad Request";
    case KNIT_HTTP_FORBIDDEN:
        return "Forbidden";
    case KNIT_HTTP_NOT_FOUND:
        return "Not Found";
    case KNIT_HTTP_METHOD_NOT_ALLOWED:
        return "Method Not Allowed";
    case KNIT_HTTP_MISDIRECTED:
        return "Misdirected Request";
    case KNIT_HTTP_HEAD_TOO_LARGE:
        return "Request Header Fields Too Large";
    case KNIT_HTTP_UNAVAILABLE:
    default:
        return "Service Unavailable";
    }
}
