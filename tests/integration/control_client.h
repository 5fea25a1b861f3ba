/*
 * An admin's end of the control socket, for tests: answers, and what a watcher gets.
 */
#ifndef FOB_TESTS_CONTROL_CLIENT_H
#define FOB_TESTS_CONTROL_CLIENT_H

#include "harness.h"

#include "../../common/control.h"

enum { SAID_SIZE = 64 << 10, AT_ONCE_MS = 1000 };

/* The last answer, cut at its size. */
extern char said[SAID_SIZE];

#define ASK(b, words) broker_control((b), (words), said, sizeof said)

/* One value without blanks, and a newline. */
bool is_json(const char *text);

/* Connects and sends these bytes, none when NULL. */
int control_send(const struct broker *b, const void *bytes, size_t len);
/* A packet within the time: its length, 0 at the end, -1 for none. Terminated. */
ssize_t control_packet(int sock, char packet[CONTROL_PACKET_MAX + 1], int ms);
/* To the answer's end: its exit status, -1: cut off, -2: none for so long. The text is in said. */
int control_end(int sock, int ms);

/* The whole, and that it is JSON. */
const char *status_json(const struct broker *b);
/* Waits until it has this part: workers count after they have answered. */
void expect_status(const struct broker *b, const char *part);
void expect_answered_at_once(const struct broker *b);

struct watcher {
    unsigned records, gaps;
    size_t len; /* of the beginning of a line */
    char line[128 << 10];
};

/* Returns when what is decided from now on will be told. */
int begin_watch(const struct broker *b);
/* Takes what comes until nothing did for so long: whole records and gaps. False: it was cut off. */
bool watch_for(int sock, struct watcher *w, int quiet_ms);
/* One record within a second, with this part. */
void expect_record(int sock, const char *part);

#endif
