/* SPDX-License-Identifier: Apache-2.0 */
/* One structure for each principal, for as long as something refers to it; and the rule that gives
 * it its class. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/policy/principals.h"

static int setup(void **state)
{
    static struct knit_principals principals;

    *state = &principals;
    return knit_principals_init(&principals);
}

static int teardown(void **state)
{
    knit_principals_fini(*state);
    knit_principals_fini(*state);
    return 0;
}

static struct knit_principal *local(struct knit_principals *principals, uid_t uid, gid_t gid)
{
    const struct knit_credentials credentials = {true, uid, gid, 1, -1};

    return knit_principals_local(principals, &credentials);
}

static uint32_t class_of(const struct knit_principal *principal)
{
    return knit_right_class(&principal->right);
}

static void whoever_is_not_local_is_anonymous(void **state)
{
    const struct knit_credentials none = KNIT_CREDENTIALS_NONE;
    struct knit_principals *principals = *state;
    struct knit_principal *principal = knit_principals_local(principals, &none);

    assert_ptr_equal(principal, principals->anonymous);
    assert_string_equal(principal->name, "anonymous");
    assert_int_equal(principal->kind, KNIT_PRINCIPAL_ANONYMOUS);
    assert_false(knit_principal_is_stranger(principal));
    knit_principals_drop(principals, principal);
    knit_principals_drop(principals, principal);
    assert_ptr_equal(knit_principals_local(principals, &none), principal);
}

static void a_user_is_one_principal_with_its_groups(void **state)
{
    struct knit_principals *principals = *state;
    struct knit_principal *first = local(principals, 4242, 7), *second = local(principals, 4242, 7),
                          *other = local(principals, 4242, 8);

    assert_non_null(first);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_string_equal(first->name, "uid:4242");
    assert_string_equal(other->name, "uid:4242");
    assert_int_equal(first->uid, 4242);
    assert_int_equal(first->gid_count, 1);
    assert_int_equal(first->gids[0], 7);
    /* Its sessions are one flow. */
    assert_true(first->number != 0);
    assert_int_equal(first->number, other->number);
    knit_principals_drop(principals, first);
    assert_ptr_equal(local(principals, 4242, 7), second);
    knit_principals_drop(principals, second);
    knit_principals_drop(principals, second);
    knit_principals_drop(principals, other);
}

/* The kernel's record for this process. */
static void groups_of_a_peer_are_those_of_its_process(void **state)
{
    struct knit_credentials credentials = {true, getuid(), getgid(), getpid(), -1};
    gid_t own[256], *gids;
    int fds[2], own_count = getgroups(256, own), count;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    credentials.fd = fds[0];
    count = knit_credentials_groups(&credentials, &gids);
    assert_true(count >= 1);
    for (int i = 1; i < count; i++)
        assert_true(gids[i - 1] < gids[i]);
    for (int i = 0; i <= own_count; i++) {
        gid_t wanted = i < own_count ? own[i] : getgid();
        bool found = false;

        for (int at = 0; at < count; at++)
            found = found || gids[at] == wanted;
        assert_true(found);
    }
    assert_true(count <= own_count + 1);
    free(gids);
    close(fds[0]);
    close(fds[1]);
}

static void names_of_one_kind_are_one_principal(void **state)
{
    struct knit_principals *principals = *state;
    struct knit_principal *token =
                              knit_principals_named(principals, KNIT_PRINCIPAL_TOKEN, "token:a"),
                          *again =
                              knit_principals_named(principals, KNIT_PRINCIPAL_TOKEN, "token:a"),
                          *certificate = knit_principals_named(
                              principals, KNIT_PRINCIPAL_CERTIFICATE, "cert:dns:a");

    assert_ptr_equal(token, again);
    assert_ptr_not_equal(token, certificate);
    assert_true(token->number != certificate->number);
    assert_int_equal(token->uid, (uid_t)-1);
    assert_int_equal(certificate->gid_count, 0);
    knit_principals_drop(principals, again);
    knit_principals_drop(principals, NULL);
    /* What is still referred to is freed with the table. */
}

/* Tokens alone may call. */
static void on_rule(void *arg, struct knit_principal *principal)
{
    uint32_t *count = arg;

    ++*count;
    knit_right_store(&principal->right,
        principal->kind == KNIT_PRINCIPAL_TOKEN ? KNIT_RIGHTS_ALL : KNIT_RIGHTS_NOTHING);
}

static void a_rule_holds_for_those_there_are_and_those_to_come(void **state)
{
    struct knit_principals *principals = *state;
    struct knit_principal *before = local(principals, 1, 1), *after, *token;
    uint32_t count = 0;

    assert_int_equal(class_of(before), KNIT_RIGHTS_ALL);
    knit_principals_set_rule(principals, on_rule, &count);
    assert_int_equal(count, 2);
    assert_int_equal(class_of(before), KNIT_RIGHTS_NOTHING);
    after = local(principals, 2, 2);
    token = knit_principals_named(principals, KNIT_PRINCIPAL_TOKEN, "token:a");
    assert_int_equal(count, 4);
    assert_int_equal(class_of(after), KNIT_RIGHTS_NOTHING);
    assert_int_equal(class_of(token), KNIT_RIGHTS_ALL);
    assert_true(knit_principal_is_stranger(principals->anonymous));
    /* The kernel says who it is. */
    assert_false(knit_principal_is_stranger(before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whoever_is_not_local_is_anonymous, setup, teardown),
        cmocka_unit_test_setup_teardown(a_user_is_one_principal_with_its_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_of_a_peer_are_those_of_its_process, setup, teardown),
        cmocka_unit_test_setup_teardown(names_of_one_kind_are_one_principal, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_rule_holds_for_those_there_are_and_those_to_come, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
