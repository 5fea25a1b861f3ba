/*
 * A user namespace of one's own: user_namespaces(7). Where the kernel lets an ordinary user have one, mounts
 * can be cloned and sealed without privilege.
 */
#ifndef FOB_BROKER_USERNS_H
#define FOB_BROKER_USERNS_H

/* This process enters a new user and mount namespace, its own uid and gid mapped to themselves. 0 or a
 * negative errno (-EPERM, -ENOSPC: not to be had). */
int userns_enter(void);

#endif
