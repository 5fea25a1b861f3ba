/*
 * Clients and users of a worker: who shares what, and that nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../broker/client.h"

static struct clients clients;

static int load(void **state)
{
    (void)state;
    struct policy *policy;
    struct policy_messages messages = { 0 };
    int err =
        policy_load_text(&policy, "t", "allow any read /srv/**\n", 23, &(struct policy_env){ 0 }, &messages);
    policy_messages_deinit(&messages);
    clients = (struct clients){ .policy = policy };
    return err;
}

static int unload(void **state)
{
    (void)state;
    policy_free((struct policy *)clients.policy);
    return 0;
}

static bool is_empty(void)
{
    for (size_t i = 0; i < CLIENT_BUCKETS; i++)
        if (clients.by_identity[i] || clients.by_uid[i])
            return false;
    return true;
}

static void test_same_identity_is_shared(void **state)
{
    (void)state;
    gid_t groups[] = { 5, 9 }, same[] = { 5, 9 };
    struct peer peer = { 100, 2001, 2001, groups, 2, false }, again = { 200, 2001, 2001, same, 2, false };
    struct client *a = client_ref(&clients, &peer), *b = client_ref(&clients, &again);
    assert_ptr_equal(a, b);
    groups[0] = 6; /* the client has copied what it needs */
    assert_int_equal(a->subject.groups[0], 5);
    client_unref(&clients, a);
    assert_false(is_empty());
    client_unref(&clients, b);
    assert_true(is_empty());
}

static void test_other_groups_are_another_client_of_the_same_user(void **state)
{
    (void)state;
    gid_t groups[] = { 5, 9 }, fewer[] = { 5 }, others[] = { 5, 8 };
    struct peer peers[] = {
        { 1, 2001, 2001, groups, 2, false }, { 1, 2001, 2001, fewer, 1, false },
        { 1, 2001, 2001, others, 2, false }, { 1, 2001, 2001, NULL, 0, false },
        { 1, 2001, 2002, groups, 2, false },
    };
    struct client *made[5];
    for (size_t i = 0; i < 5; i++) {
        made[i] = client_ref(&clients, &peers[i]);
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(made[i], made[j]);
        assert_ptr_equal(made[i]->user, made[0]->user);
    }
    struct client *other = client_ref(&clients, &(struct peer){ 1, 2002, 2002, NULL, 0, false });
    assert_ptr_not_equal(other->user, made[0]->user);
    for (size_t i = 0; i < 5; i++)
        client_unref(&clients, made[i]);
    client_unref(&clients, other);
    assert_true(is_empty());
}

/* Many, in one bucket too, given up in another order than they came. */
static void test_many(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    static struct client *made[MANY];
    for (uid_t i = 0; i < MANY; i++)
        made[i] = client_ref(&clients, &(struct peer){ 1, i * 65536, i, NULL, 0, false });
    for (size_t i = 0; i < MANY; i++) {
        size_t j = i * 7 % MANY;
        assert_int_equal(made[j]->subject.gid, j);
        client_unref(&clients, made[j]);
    }
    assert_true(is_empty());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_identity_is_shared),
        cmocka_unit_test(test_other_groups_are_another_client_of_the_same_user),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests_name("client", tests, load, unload);
}
