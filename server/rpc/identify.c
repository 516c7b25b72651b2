/* SPDX-License-Identifier: Apache-2.0 */
/* The answer is encoded before the connection is told to end, which frees its input, and the token
 * in it. */
#include "server/rpc/identify.h"

#include "server/policy/authentication.h"
#include "server/rpc/router.h"

static struct knit_authentication *authentication_of(const struct knit_caller *caller)
{
    /* A router over lanes alone has no backend. */
    return caller->router->backend != NULL ? caller->router->backend->authentication : NULL;
}

static void refuse(
    struct knit_caller *caller, const struct knit_message *message, uint32_t code, const char *text)
{
    if (message->kind == KNIT_MESSAGE_REQUEST)
        knit_caller_refuse(caller, message->msgid, code, text);
    else
        KNIT_COUNT(caller->turn, notifications_dropped);
}

bool knit_identify_note_failure(struct knit_caller *caller, const char *reason)
{
    struct knit_authentication *authentication = authentication_of(caller);
    struct knit_failures_verdict verdict = {.may_answer = true};

    if (authentication != NULL)
        verdict = knit_authentication_failed(authentication, caller->address, caller->turn->now_ns);
    if (verdict.may_log && knit_turn_may_say(caller->turn, KNIT_LOG_AUTHENTICATION))
        knit_log(caller->turn->log, KNIT_LOG_WARNING, "connection closed: authentication failed",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_NUMBER("failures", verdict.count),
            KNIT_LOG_CALLER(caller));
    return verdict.may_answer;
}

/* A failure is the end of the connection. */
static void fail(struct knit_caller *caller, const struct knit_message *message, const char *text)
{
    KNIT_COUNT(caller->turn, authentications_failed);
    if (!knit_identify_note_failure(caller, text)) {
        caller->ops->close(caller);
        return;
    }
    refuse(caller, message, KNIT_UNAUTHENTICATED, text);
    caller->ops->end(caller);
}

/* NULL, or why the caller cannot become another principal now. */
static const char *why_not(const struct knit_caller *caller)
{
    if (caller->principal->kind == KNIT_PRINCIPAL_TOKEN)
        return "$/hello: this connection has said a token already";
    if (caller->principal->kind == KNIT_PRINCIPAL_CERTIFICATE)
        return "$/hello: this connection has shown a certificate, which says who calls; a token is "
               "for connections without one";
    if (caller->calls.count > 0 || caller->account.slots > 0 || caller->references != NULL)
        return "$/hello: a token is taken while nothing is in flight; say it before the first call";
    if (caller->session_id != 0)
        return "$/hello: a token is taken before $/attach; say it on a new connection";
    return NULL;
}

bool knit_identify_by_token(
    struct knit_caller *caller, const struct knit_message *message, struct knit_span token)
{
    struct knit_authentication *authentication = authentication_of(caller);
    const char *reason = why_not(caller);
    struct knit_principal *principal = NULL;
    uint64_t key = 0;
    int r;

    if (reason != NULL || authentication == NULL) {
        refuse(caller, message, KNIT_DENIED,
            reason != NULL ? reason : "$/hello: tokens are not taken here");
        return false;
    }
    if (!caller->ops->is_private(caller)) {
        fail(caller, message,
            "a token came unencrypted over a network, where others can read it; make a new one");
        return false;
    }
    r = knit_authentication_by_token(authentication, token, &principal, &key);
    if (r < 0) {
        caller->ops->close_without_memory(caller);
        return false;
    }
    if (r != 0) {
        fail(caller, message,
            r == KNIT_AUTHENTICATION_E_NONE ? "the daemon has no tokens (server.tokens)"
                                            : "the token is nobody's");
        return false;
    }
    knit_principals_drop(authentication->principals, caller->principal);
    caller->principal = principal;
    caller->token_key = key;
    KNIT_COUNT(caller->turn, authentications);
    return true;
}

bool knit_identify_holds(const struct knit_caller *caller)
{
    return caller->principal->kind != KNIT_PRINCIPAL_TOKEN ||
           knit_authentication_has(authentication_of(caller), caller->token_key);
}
