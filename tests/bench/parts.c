/*
 * What each thing that fobd does adds to the floor when it is the only one, and what all of them add
 * together: the measured limit of what a broker with these properties can be.
 */
#include <stdio.h>

#include "../../common/util.h"
#include "clients.h"
#include "measure.h"
#include "sections.h"
#include "servers.h"

/* Three can be had for many requests at once; the others each of them needs. */
#define EACH "epoll cred reply tree stat flags seccomp landlock"
#define SHARED "look unread audit"

static const struct part {
    const char *what, *features;
} parts[] = {
    { "epoll_wait before recvmsg", "epoll" },
    { "credentials with each message", "cred" },
    { "a reply of 32 bytes", "reply" },
    { "a sealed mount, openat2", "tree" },
    { "fstatat before the open", "look" },
    { "fstat after it", "stat" },
    { "F_SETFL after it", "flags" },
    { "SIOCOUTQ: is the last reply read?", "unread" },
    { "a record of 400 bytes, written", "audit" },
    { "seccomp", "seccomp" },
    { "Landlock", "landlock" },
    { "all of these together", EACH " " SHARED },
    { "all but the look, SIOCOUTQ, the record", EACH },
};

enum { PARTS = ARRAY_SIZE(parts) };

struct floors {
    struct server fobd, bare, with[PARTS];
};

/* Each beside the bare floor of its own round, all in turn. */
static void measure(const void *data)
{
    static double times[PARTS][ROUNDS_MAX], bare_times[ROUNDS_MAX], fob_times[ROUNDS_MAX];
    const struct floors *floors = data;
    const char *path = at("data/file");
    struct question with[PARTS], bare = ask_floor(connected(floors->bare.socket, SOCK_SEQPACKET), path),
                                 fob = ask_fob(connected(floors->fobd.socket, SOCK_SEQPACKET), path, 1);
    for (int i = 0; i < PARTS; i++)
        with[i] = ask_floor(connected(floors->with[i].socket, SOCK_SEQPACKET), path);
    for (int r = 0; r < effort.rounds; r++) {
        bare_times[r] = act_time(&(struct act){ run_question, &bare, 0, 0 });
        for (int i = 0; i < PARTS; i++)
            times[i][r] = act_time(&(struct act){ run_question, &with[i], 0, 0 });
        fob_times[r] = act_time(&(struct act){ run_question, &fob, 0, 0 });
    }
    for (int i = 0; i < PARTS; i++)
        report(&(struct row){ parts[i].what, "us", "the floor without", .limit = 0 }, times[i], bare_times,
               effort.rounds);
    report(&(struct row){ "fobd itself", "us", "the floor with all of these", .limit = 0 }, fob_times,
           times[PARTS - 2], effort.rounds);
    report(&(struct row){ "fobd itself", "us", "the floor with all but those three", .limit = 0 }, fob_times,
           times[PARTS - 1], effort.rounds);
}

void section_parts(void)
{
    static struct floors floors;
    need_fobd(&floors.fobd, &(struct fobd_options){ .name = "fob", .cpu = CPU_SERVER });
    start_floor(&floors.bare, "bare", CPU_SERVER, 0, 0, "");
    for (int i = 0; i < PARTS; i++) {
        char name[16];
        snprintf(name, sizeof name, "part%d", i);
        start_floor(&floors.with[i], name, CPU_SERVER, 0, 0, parts[i].features);
    }
    as_user(CLIENT_UID, CPU_SERVER, measure, &floors);
    servers_stop();
}
