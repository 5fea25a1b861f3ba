/*
 * Kernel constants newer than the headers of Debian 12 (linux-libc-dev 6.1). Every use is probed at
 * run time: that a name stands here says nothing of the running kernel.
 */
#ifndef FOB_COMMON_COMPAT_H
#define FOB_COMMON_COMPAT_H

#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76 /* Linux 6.5 */
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

#endif
