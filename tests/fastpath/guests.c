/* SPDX-License-Identifier: Apache-2.0 */
/* See guests.h. Mapping and reporting are two functions, because between them the session is
 * counted and not read, which tests check.
 */
#include "tests/fastpath/guests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

void guests_map(struct pools *pools, uid_t uid, struct guest *guest)
{
    struct knit_host_peer peer = {.uid = uid};
    const struct knit_geometry *geometry = &guest->grant.geometry;
    struct knit_session_options options = {.spin_us = 20};
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;

    assert_int_equal(
        knit_host_attach(pools->pool, &peer,
            &(struct knit_host_ask){64, 0, KNIT_FEATURES, KNIT_CLASSES_MAX}, &guest->grant),
        0);
    assert_int_equal(knit_segment_map(guest->grant.request_fd, knit_layout_request_bytes(geometry),
                         true, &guest->request),
        0);
    assert_int_equal(knit_segment_map(guest->grant.reply_fd, knit_layout_reply_bytes(geometry),
                         false, &guest->reply),
        0);
    assert_int_equal(knit_segment_map(guest->grant.board_fd,
                         knit_layout_board_bytes(geometry->lanes), false, &guest->board),
        0);
    knit_layout_request(geometry, guest->request.base, &request);
    knit_layout_reply(geometry, guest->reply.base, &reply);
    knit_layout_board(geometry->lanes, guest->board.base, &board);
    options.steal = guest->grant.steal;
    options.argument_max_bytes = guest->grant.call_max_bytes;
    options.bell_fd = guest->grant.bell_fd;
    options.asks_host = guest->grant.asks_host;
    options.host_fd = guest->grant.host_fd;
    assert_int_equal(
        knit_session_new(geometry, &request, &reply, &board, &options, &guest->session), 0);
}

void guests_open(struct pools *pools, uid_t uid, struct guest *guest)
{
    guests_map(pools, uid, guest);
    assert_int_equal(knit_segment_seal(guest->grant.request_fd), 0);
    assert_int_equal(knit_host_attached(pools->pool, guest->grant.id), 0);
}

void guests_close(struct pools *pools, struct guest *guest)
{
    knit_host_detach(pools->pool, guest->grant.id);
    guest->session = knit_session_free(guest->session);
    knit_segment_unmap(&guest->request);
    knit_segment_unmap(&guest->reply);
    knit_segment_unmap(&guest->board);
    knit_host_grant_close(&guest->grant);
}
