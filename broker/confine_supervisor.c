#include <errno.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "../common/util.h"
#include "confine.h"

static const cap_value_t used[] = { CAP_KILL,    CAP_SETUID,    CAP_SETGID,
                                    CAP_SETPCAP, CAP_SYS_ADMIN, CAP_SYS_CHROOT };
static const cap_value_t given[] = { CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE };

/* Raises in `to` those of caps that `from` has permitted: a container may lack some, and the worker says
 * which it misses. */
static int copy_held(cap_t to, cap_t from, cap_flag_t flag, const cap_value_t *caps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cap_flag_value_t held;
        if (cap_get_flag(from, caps[i], CAP_PERMITTED, &held) < 0)
            return -errno;
        if (held == CAP_SET && cap_set_flag(to, flag, 1, &caps[i], CAP_SET) < 0)
            return -errno;
    }
    return 0;
}

int confine_supervisor(void)
{
    cap_t have = cap_get_proc(), want = cap_init();
    int err = have && want ? 0 : -ENOMEM;
    if (err == 0)
        err = copy_held(want, have, CAP_PERMITTED, used, ARRAY_SIZE(used));
    if (err == 0)
        err = copy_held(want, have, CAP_EFFECTIVE, used, ARRAY_SIZE(used));
    if (err == 0)
        err = copy_held(want, have, CAP_PERMITTED, given, ARRAY_SIZE(given));
    if (err == 0 && cap_set_proc(want) < 0)
        err = -errno;
    if (err == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) /* it never executes a program */
        err = -errno;
    cap_free(have);
    cap_free(want);
    return err;
}

/* CAP_DAC_READ_SEARCH is permitted still; a container that lacks it notices when it reads. */
void confine_supervisor_may_read(bool may)
{
    static const cap_value_t reading[] = { CAP_DAC_READ_SEARCH };
    cap_t caps = cap_get_proc();
    if (caps && cap_set_flag(caps, CAP_EFFECTIVE, 1, reading, may ? CAP_SET : CAP_CLEAR) == 0)
        cap_set_proc(caps);
    cap_free(caps);
}
