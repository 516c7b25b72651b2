/* SPDX-License-Identifier: Apache-2.0 */
/* Where a session may have connections: the places that its URL names, and of a name with several
 * addresses each of these. What is known of each: which connection goes there, and how it fares.
 *
 * Three failures in a row eject an endpoint: calls go elsewhere for a second, and twice as long
 * each time that it has not come back then, up to a minute. Of all endpoints no more than half are
 * ejected, for when most seem to fail it is rather this side that does. A failure is an attempt to
 * connect that comes to nothing, a connection that ends within a second, or a time in which a
 * server that has calls says nothing at all, not even to `$/ping`; never an error of a call. One
 * that is ejected takes calls again once it has answered: another connection its `$/hello`, the
 * same one anything.
 *
 * Nothing here does input and output: spread.c and reconnect.c do. Threads: one at a time.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "clients/lib/url.h"

struct addrinfo;
struct knit_handle;
struct knit_lookup;
struct knit_stream;

enum { KNIT_ENDPOINTS_MAX = 32 };

union knit_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct knit_endpoint {
    bool is_there;
    bool has_address; /* else the host's name is looked up for it */
    bool is_ejected;
    bool is_asked; /* by a ping, if that could be sent, since it has said something */
    uint32_t url;  /* its number */
    union knit_address address;
    struct knit_stream *stream; /* its connection, which takes calls; NULL = none */
    struct knit_handle *ping;   /* one that has no answer; NULL = none */
    uint32_t failures;          /* in a row */
    uint64_t due_ns;            /* when it is tried, or looked at, again */
    uint64_t heard, heard_ns;   /* of the stream, as it was seen last to have changed, and when */
    uint64_t served_ns;         /* since when it takes calls */
    uint64_t ejected_ns;        /* for how long it was ejected last */
    uint64_t since_ns;          /* when that was */
};

struct knit_endpoints {
    uint32_t connections;            /* at most so many take calls */
    uint64_t lookup_ns;              /* how often names are looked up, */
    uint64_t look_up_at_ns, wait_ns; /* and when next, or how long an answer is not looked for */
    bool has_names;
    struct knit_endpoint at[KNIT_ENDPOINTS_MAX];
};

/* Each of so many URLs has one, of which no address is known. */
void knit_endpoints_init(struct knit_endpoints *all, uint32_t url_count);

/* How many there are: in all, with that URL. */
uint32_t knit_endpoints_count(const struct knit_endpoints *all);
uint32_t knit_endpoints_count_of(const struct knit_endpoints *all, uint32_t url);

/* The URL's host has these addresses now. Of these are endpoints those of one family, for a server
 * mostly has one of each: AF_UNSPEC = that of the endpoints it has, or where there are none, none.
 * A connection to an address that is not among them takes no more calls. */
void knit_endpoints_learn(
    struct knit_endpoints *all, uint32_t url, const struct addrinfo *list, int family);

/* NULL: it is not known. */
struct knit_endpoint *knit_endpoints_find(
    struct knit_endpoints *all, uint32_t url, const union knit_address *address);

/* It has failed once more. chance: any number. */
void knit_endpoint_fail(
    struct knit_endpoints *all, struct knit_endpoint *endpoint, uint64_t now_ns, uint64_t chance);

/* It has not come back when its time was over. */
void knit_endpoint_eject_again(struct knit_endpoint *endpoint, uint64_t now_ns);

/* It takes calls from now on. */
void knit_endpoint_return(struct knit_endpoint *endpoint, uint64_t now_ns);
