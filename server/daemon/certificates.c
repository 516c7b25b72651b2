/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force is one pointer, so it changes as a whole. */
#include "server/daemon/certificates.h"

#include <errno.h>
#include <event2/event.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "server/base/log.h"
#include "server/tls/tls_context.h"

enum { SOON_DAYS = 14, DAY_S = 86400 };

enum flaw {
    EXPIRED,
    EARLY,
    SOON,
    SOUND,
};

static const char *const flaws[] = {
    [EXPIRED] = "a certificate, or a list of revoked ones, has expired",
    [EARLY] = "a certificate, or a list of revoked ones, is not valid yet",
    [SOON] = "a certificate, or a list of revoked ones, expires soon",
};

static const char is_authority[] =
    "the certificate that is shown is an authority's, which some clients refuse";

static const char has_unlisted[] = "an authority of tls_client_ca has no list of revoked "
                                   "certificates, so what it has certified is refused";

static enum flaw judge(const struct knit_tls_validity *of, time_t now)
{
    if (of->until <= now)
        return EXPIRED;
    if (of->from > now)
        return EARLY;
    return of->until - now < SOON_DAYS * DAY_S ? SOON : SOUND;
}

static void warn(struct knit_log *log, const struct knit_tls_validity *of, time_t now)
{
    const enum flaw flaw = judge(of, now);

    if (flaw == EXPIRED)
        knit_log(log, KNIT_LOG_ERROR, flaws[flaw], KNIT_LOG_TEXT("file", of->path));
    else if (flaw == EARLY)
        knit_log(log, KNIT_LOG_ERROR, flaws[flaw], KNIT_LOG_TEXT("file", of->path),
            KNIT_LOG_NUMBER("valid_in_s", of->from - now));
    else if (flaw == SOON)
        knit_log(log, KNIT_LOG_WARNING, flaws[flaw], KNIT_LOG_TEXT("file", of->path),
            KNIT_LOG_NUMBER("days_left", (of->until - now) / DAY_S));
    if (of->is_authority)
        knit_log(log, KNIT_LOG_WARNING, is_authority, KNIT_LOG_TEXT("file", of->path));
    if (of->unlisted[0] != '\0')
        knit_log(log, KNIT_LOG_WARNING, has_unlisted, KNIT_LOG_TEXT("file", of->path),
            KNIT_LOG_TEXT("authority", of->unlisted));
}

/* The same for who has asked for it to be read. */
static void put_note(struct knit_sentence *note, const struct knit_tls_validity *of, time_t now)
{
    const enum flaw flaw = judge(of, now);

    if (flaw != SOUND)
        (void)knit_sentence_append(note, 0, "%s: %s", flaws[flaw], of->path);
    if (of->is_authority)
        (void)knit_sentence_append(note, 0, "%s: %s", is_authority, of->path);
    if (of->unlisted[0] != '\0')
        (void)knit_sentence_append(note, 0, "%s: %s", has_unlisted, of->path);
}

/* Either may be NULL. */
static void look(
    const struct knit_certificates *certificates, struct knit_log *log, struct knit_sentence *note)
{
    const struct knit_tls_validity *validities;
    size_t count = knit_tls_context_validities(certificates->store->context, &validities);
    const time_t now = time(NULL);

    for (size_t i = 0; i < count; i++) {
        if (log != NULL)
            warn(log, &validities[i], now);
        if (note != NULL)
            put_note(note, &validities[i], now);
    }
}

static void on_day(evutil_socket_t fd, short events, void *arg)
{
    const struct knit_certificates *certificates = arg;

    (void)fd, (void)events;
    look(certificates, certificates->log, NULL);
}

int knit_certificates_watch(
    struct knit_certificates *certificates, struct event_base *base, struct knit_log *log)
{
    static const struct timeval day = {DAY_S, 0};

    if (certificates->store == NULL)
        return 0;
    certificates->log = log;
    certificates->day_event = event_new(base, -1, EV_PERSIST, on_day, certificates);
    if (certificates->day_event == NULL || event_add(certificates->day_event, &day) < 0)
        return -ENOMEM;
    look(certificates, log, NULL);
    return 0;
}

void knit_certificates_unwatch(struct knit_certificates *certificates)
{
    if (certificates->day_event != NULL)
        event_free(certificates->day_event);
    certificates->day_event = NULL;
}

static int prepare(void *arg, struct knit_sentence *why)
{
    struct knit_certificates *certificates = arg;
    const struct knit_settings *settings = certificates->settings;
    int r = 0;

    if (settings->tls_ticket_keys != NULL)
        r = knit_tls_tickets_read(settings->tls_ticket_keys, &certificates->next_ring, why);
    return r == 0 ? knit_tls_context_new(settings, &certificates->tickets, &certificates->next, why)
                  : r;
}

static void commit(void *arg, struct knit_log *log, struct knit_sentence *note)
{
    struct knit_certificates *certificates = arg;

    if (certificates->settings->tls_ticket_keys != NULL)
        knit_tls_tickets_set(&certificates->tickets, &certificates->next_ring);
    OPENSSL_cleanse(&certificates->next_ring, sizeof(certificates->next_ring));
    knit_tls_store_replace(certificates->store, certificates->next);
    certificates->next = NULL;
    look(certificates, log, note);
}

static void abandon(void *arg)
{
    struct knit_certificates *certificates = arg;

    OPENSSL_cleanse(&certificates->next_ring, sizeof(certificates->next_ring));
    SSL_CTX_free(certificates->next);
    certificates->next = NULL;
}

int knit_certificates_init(struct knit_certificates *certificates,
    const struct knit_settings *settings, struct knit_sentence *why)
{
    int r;

    *certificates = (struct knit_certificates){.settings = settings};
    r = knit_tls_tickets_init(&certificates->tickets);
    if (r != 0)
        return knit_sentence_set(why, r, "cannot get random bytes: %s", strerror(-r));
    r = prepare(certificates, why);
    if (r == 0 && certificates->next != NULL) {
        knit_tls_store_init(&certificates->memory);
        certificates->store = &certificates->memory;
        commit(certificates, NULL, NULL);
    } else {
        abandon(certificates);
    }
    return r;
}

int knit_certificates_check(
    const struct knit_settings *settings, struct knit_log *log, struct knit_sentence *why)
{
    struct knit_certificates certificates;
    int r = knit_certificates_init(&certificates, settings, why);

    if (r == 0 && log != NULL && certificates.store != NULL)
        look(&certificates, log, NULL);
    knit_certificates_fini(&certificates);
    return r;
}

void knit_certificates_fini(struct knit_certificates *certificates)
{
    if (certificates->settings == NULL)
        return;
    if (certificates->store != NULL)
        knit_tls_store_fini(certificates->store);
    certificates->store = NULL;
    knit_tls_tickets_fini(&certificates->tickets);
    certificates->settings = NULL;
}

struct knit_reload_part knit_certificates_part(struct knit_certificates *certificates)
{
    return (struct knit_reload_part){.name = certificates->store != NULL ? "tls_certificate" : NULL,
        .prepare = prepare,
        .commit = commit,
        .abandon = abandon,
        .arg = certificates};
}
