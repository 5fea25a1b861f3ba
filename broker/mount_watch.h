/*
 * Mounts that come and go: the clones that files are opened through show those that were there when they were
 * made.
 */
#ifndef FOB_BROKER_MOUNT_WATCH_H
#define FOB_BROKER_MOUNT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "mounts.h"

struct mount_watch {
    int fd;          /* /proc/self/mountinfo; poll(2) it for POLLPRI; -1: not watched */
    uint64_t seen;   /* of what lies at, above or beneath the roots */
    int64_t looked;  /* milliseconds: the last time */
    int64_t look_at; /* milliseconds: a change is to be looked at then; INT64_MAX: none */
};

void mount_watch_init(struct mount_watch *watch);
/* Never fatal: without it mounts are renewed by reloads only. */
void mount_watch_open(struct mount_watch *watch);
void mount_watch_close(struct mount_watch *watch);
/* poll(2) reported the descriptor: several changes mostly come together. */
void mount_watch_note(struct mount_watch *watch, int64_t now_ms);
/* These roots were just cloned. */
void mount_watch_remember(struct mount_watch *watch, const struct mounts *mounts);
/* If a look is due: has anything changed for these roots since? */
bool mount_watch_changed(struct mount_watch *watch, const struct mounts *mounts, int64_t now_ms);

#endif
