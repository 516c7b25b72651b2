/* SPDX-License-Identifier: Apache-2.0 */
/* Who may attach: root, the daemon's own user, listed users, members of listed groups, and no
 * others; names that are not known refuse the start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/policy/access.h"

static int init(
    struct knit_access *access, const char *user, const char *group, struct knit_sentence *why)
{
    char *users[] = {(char *)(uintptr_t)user}, *groups[] = {(char *)(uintptr_t)group};
    struct knit_settings settings = {
        .attach_users = {users, user != NULL}, .attach_groups = {groups, group != NULL}};

    return knit_access_init(access, &settings, why);
}

static bool may(const struct knit_access *access, uid_t uid, gid_t gid)
{
    struct knit_credentials credentials = {true, uid, gid, 1, -1};

    return knit_access_may_attach(access, &credentials);
}

static void without_lists_it_is_whoever_the_socket_admits(void **state)
{
    struct knit_access access;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(init(&access, NULL, NULL, &why), 0);
    assert_true(may(&access, 0, 4242));
    assert_true(may(&access, geteuid(), 4242));
    assert_true(may(&access, 4242, 4242));
    knit_access_fini(&access);
    knit_access_fini(&access);
}

static void lists_add_users_and_groups(void **state)
{
    struct knit_access access;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(init(&access, "4242", "4343", &why), 0);
    assert_true(may(&access, 4242, 1));
    assert_true(may(&access, 1, 4343));
    assert_true(may(&access, 0, 1));
    assert_true(may(&access, geteuid(), 1));
    assert_false(may(&access, (uid_t)-1, (gid_t)-1));
    assert_false(may(&access, 4343, 4242));
    knit_access_fini(&access);
    assert_int_equal(init(&access, "root", "root", &why), 0);
    assert_true(may(&access, 4242, 0));
    knit_access_fini(&access);
}

static void a_stranger_is_nobody_we_listed(void **state)
{
    struct knit_access access;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(init(&access, "65534", "65534", &why), 0);
    access.maps_all = false;
    assert_false(may(&access, KNIT_ACCESS_STRANGER, KNIT_ACCESS_STRANGER));
    access.own_uid = KNIT_ACCESS_STRANGER;
    assert_false(may(&access, KNIT_ACCESS_STRANGER, 1));
    access.maps_all = true;
    assert_true(may(&access, KNIT_ACCESS_STRANGER, 1));
    knit_access_fini(&access);
}

static void unknown_names_are_refused(void **state)
{
    static const char *const names[] = {"no-such-name-here", "-1", "4294967295", "1x", ""};
    struct knit_access access;
    struct knit_sentence why;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(init(&access, names[i], NULL, &why), KNIT_ACCESS_E_REFUSED);
        assert_non_null(strstr(why.text, "attach_users"));
        assert_int_equal(init(&access, NULL, names[i], &why), KNIT_ACCESS_E_REFUSED);
        assert_non_null(strstr(why.text, "attach_groups"));
    }
}

/* Supplementary groups are the kernel's record of the peer; this process is in no group 4242. */
static void groups_of_the_peer_are_asked_of_its_socket(void **state)
{
    struct knit_credentials peer = {true, 4343, 4343, 1, -1};
    struct knit_access access;
    struct knit_sentence why;
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(init(&access, NULL, "4242", &why), 0);
    peer.fd = fds[0];
    assert_false(knit_access_may_attach(&access, &peer));
    knit_access_fini(&access);
    close(fds[0]);
    close(fds[1]);
}

static void one_who_is_not_local_may_not_attach(void **state)
{
    const struct knit_credentials stranger = KNIT_CREDENTIALS_NONE;
    struct knit_access access;
    struct knit_sentence why;

    (void)state;
    assert_int_equal(init(&access, NULL, NULL, &why), 0);
    assert_false(knit_access_may_attach(&access, &stranger));
    knit_access_fini(&access);
}

static void an_operator_is_root_or_the_daemons_own_user_and_local(void **state)
{
    const struct knit_credentials root = {true, 0, 4343, 1, -1},
                                  own = {true, geteuid(), 4343, 1, -1},
                                  other = {true, 4343, 0, 1, -1},
                                  stranger = {false, geteuid(), 0, 1, -1};

    (void)state;
    assert_true(knit_credentials_is_operator(&root));
    assert_true(knit_credentials_is_operator(&own));
    assert_false(knit_credentials_is_operator(&other));
    assert_false(knit_credentials_is_operator(&stranger));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_lists_it_is_whoever_the_socket_admits),
        cmocka_unit_test(lists_add_users_and_groups),
        cmocka_unit_test(a_stranger_is_nobody_we_listed),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test(one_who_is_not_local_may_not_attach),
        cmocka_unit_test(groups_of_the_peer_are_asked_of_its_socket),
        cmocka_unit_test(an_operator_is_root_or_the_daemons_own_user_and_local),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
