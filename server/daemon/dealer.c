/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections a loop has follows from how many it was given and how many it has closed,
 * which is a counter of its own; so nothing is sent back. */
#include "server/daemon/dealer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/lane/bell.h"
#include "server/base/log.h"
#include "server/daemon/second.h"
#include "server/net/closer.h"
#include "server/net/endpoint.h"

/* Connections that a loop has not opened yet, from which no more are accepted: its mailbox takes
 * many times as many. */
enum { UNOPENED_MAX = 4 * KNIT_LOOP_MESSAGES_A_TURN };

int knit_dealer_init(struct knit_dealer *dealer)
{
    dealer->dealt = calloc(dealer->loops->count, sizeof(*dealer->dealt));
    return dealer->dealt == NULL ? -ENOMEM : 0;
}

void knit_dealer_fini(struct knit_dealer *dealer)
{
    free(dealer->dealt);
    dealer->dealt = NULL;
}

static void warn(struct knit_dealer *dealer, const char *message, const char *reason, int fd)
{
    char peer[KNIT_ENDPOINT_TEXT_MAX];
    bool may_say = knit_log_may(dealer->log, KNIT_LOG_TURNED_AWAY);

    knit_second_note(dealer->second);
    if (!may_say)
        return;
    if (fd < 0 || knit_endpoint_peer_name(fd, peer) != 0)
        (void)snprintf(peer, sizeof(peer), fd < 0 ? "any" : "gone");
    knit_log(dealer->log, KNIT_LOG_WARNING, message, KNIT_LOG_TEXT("reason", reason),
        KNIT_LOG_TEXT("peer", peer));
}

static void turn_away(struct knit_dealer *dealer, const char *reason, int fd, bool is_unix)
{
    dealer->turned_away++;
    warn(dealer, "connection turned away", reason, fd);
    knit_closer_close(is_unix ? dealer->closer : NULL, fd);
}

bool knit_dealer_accept(void *arg, int fd, enum knit_listener_kind kind)
{
    bool is_unix = kind == KNIT_LISTENER_UNIX;
    struct knit_dealer *dealer = arg;
    struct knit_loop *loops = dealer->loops->items;
    uint64_t total = knit_closer_count(dealer->closer), least = UINT64_MAX;
    uint64_t opened;
    uint32_t chosen = 0;

    for (uint32_t i = 0; i < dealer->loops->count; i++) {
        uint64_t closed = knit_counter_read(&loops[i].turn.counters.connections_closed);
        uint64_t open = dealer->dealt[i] > closed ? dealer->dealt[i] - closed : 0;

        total += open;
        if (open < least) {
            least = open;
            chosen = i;
        }
    }
    if (total >= (is_unix ? dealer->descriptors->connections_max : dealer->descriptors->tcp_max)) {
        turn_away(dealer,
            "as many connections as are served are open: max_connections, or fewer by ulimit -n",
            fd, is_unix);
        return true;
    }
    if (!knit_loop_send(
            &loops[chosen], (struct knit_mailbox_message){KNIT_MAILBOX_CONNECTION, fd, kind})) {
        turn_away(dealer, "its event loop does not keep up", fd, is_unix);
        return false;
    }
    dealer->dealt[chosen]++;
    dealer->accepted[kind]++;
    opened = knit_counter_read(&loops[chosen].turn.counters.connections_accepted);
    return dealer->dealt[chosen] - opened < UNOPENED_MAX;
}

void knit_dealer_exhausted(void *arg, int error)
{
    warn(arg, "connections are turned away", strerror(error), -1);
}
