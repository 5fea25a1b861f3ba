/*
 * Who sent a datagram: whom the kernel cannot name here is nobody.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../broker/datagram.h"
#include "../../common/peer.h"
#include "../../common/util.h"

static void test_peer(void **state)
{
    (void)state;
    static const struct {
        struct ucred sender;
        int err;
    } cases[] = {
        { { 7, 2001, 2001 }, 0 },           { { 7, 0, 0 }, 0 },
        { { 0, 2001, 2001 }, -EPERM }, /* of a pid namespace that is not ours */
        { { -1, 2001, 2001 }, -EPERM },     { { 7, PEER_OVERFLOW_ID, 2001 }, -EPERM }, /* not mapped */
        { { 7, (uid_t)-1, 2001 }, -EPERM }, { { 0, PEER_OVERFLOW_ID, PEER_OVERFLOW_ID }, -EPERM },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct peer peer;
        int err = datagram_peer(&peer, &cases[i].sender);
        assert_int_equal(err, cases[i].err);
        if (err < 0)
            continue;
        assert_int_equal(peer.pid, cases[i].sender.pid);
        assert_int_equal(peer.uid, cases[i].sender.uid);
        assert_int_equal(peer.gid, cases[i].sender.gid);
        assert_int_equal(peer.n_groups, 0);
        assert_true(peer.groups_unknown);
        peer_deinit(&peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_peer) };
    return cmocka_run_group_tests_name("datagram", tests, NULL, NULL);
}
