#include "control_client.h"

#include <ctype.h>
#include <poll.h>

#include "../../common/escape.h"
#include "../../common/sock.h"
#include "../../common/util.h"

char said[SAID_SIZE];

/* ---- JSON (RFC 8259) ---- */

static const char *json_value(const char *p, int depth);

static const char *json_string(const char *p)
{
    if (*p++ != '"')
        return NULL;
    for (; *p != '"'; p++) {
        if ((unsigned char)*p < ' ')
            return NULL;
        if (*p != '\\')
            continue;
        if (!*++p || !strchr("\"\\/bfnrtu", *p))
            return NULL;
        for (int i = *p == 'u' ? 4 : 0; i; i--)
            if (!isxdigit((unsigned char)*++p))
                return NULL;
    }
    return p + 1;
}

static const char *json_digits(const char *p)
{
    size_t n = strspn(p, "0123456789");
    return n ? p + n : NULL;
}

static const char *json_number(const char *p)
{
    p += *p == '-';
    p = *p == '0' ? p + 1 : json_digits(p);
    if (p && *p == '.')
        p = json_digits(p + 1);
    if (p && (*p == 'e' || *p == 'E'))
        p = json_digits(p + 1 + (p[1] == '+' || p[1] == '-'));
    return p;
}

/* Of an object or an array; p is past its opening. */
static const char *json_members(const char *p, char end, int depth)
{
    if (*p == end)
        return p + 1;
    for (;; p++) {
        if (end == '}') {
            p = json_string(p);
            if (!p || *p++ != ':')
                return NULL;
        }
        p = json_value(p, depth - 1);
        if (!p || *p == end)
            return p ? p + 1 : NULL;
        if (*p != ',')
            return NULL;
    }
}

static const char *json_value(const char *p, int depth)
{
    static const char *const words[] = { "true", "false", "null" };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strncmp(p, words[i], strlen(words[i])) == 0)
            return p + strlen(words[i]);
    if (depth && (*p == '{' || *p == '['))
        return json_members(p + 1, *p == '{' ? '}' : ']', depth);
    return *p == '"' ? json_string(p) : json_number(p);
}

bool is_json(const char *text)
{
    const char *end = json_value(text, 8);
    return escape_is_utf8(text, strlen(text)) && end && strcmp(end, "\n") == 0;
}

/* ---- the control socket ---- */

int control_send(const struct broker *b, const void *bytes, size_t len)
{
    int sock = sock_connect(at(b, "sock.control"), SOCK_SEQPACKET);
    assert_true(sock >= 0);
    if (bytes)
        assert_int_equal(send(sock, bytes, len, MSG_NOSIGNAL), len);
    return sock;
}

ssize_t control_packet(int sock, char packet[CONTROL_PACKET_MAX + 1], int ms)
{
    struct pollfd polled = { .fd = sock, .events = POLLIN };
    if (poll(&polled, 1, ms) == 0)
        return -1;
    ssize_t got = recv(sock, packet, CONTROL_PACKET_MAX, 0);
    packet[got < 0 ? 0 : got] = '\0';
    return got < 0 ? 0 : got;
}

int control_end(int sock, int ms)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    size_t len = 0;
    ssize_t got;
    while ((got = control_packet(sock, packet, ms)) > 0 && *packet != CONTROL_EXIT)
        if (len + (size_t)got < sizeof said) {
            memcpy(said + len, packet + 1, (size_t)got - 1);
            len += (size_t)got - 1;
        }
    said[len] = '\0';
    close(sock);
    return got > 0 ? atoi(packet + 1) : got < 0 ? -2 : -1;
}

const char *status_json(const struct broker *b)
{
    assert_int_equal(ASK(b, "status\0json\0"), 0);
    if (!is_json(said))
        fail_msg("not JSON: %s", said);
    return said;
}

void expect_status(const struct broker *b, const char *part)
{
    WAIT_FOR(strstr(status_json(b), part));
    if (!strstr(said, part))
        fail_msg("`%s` is not in %s", part, said);
}

void expect_answered_at_once(const struct broker *b)
{
    int64_t begin = now_us();
    assert_int_equal(ASK(b, "status\0text\0"), 0);
    assert_in_range(now_us() - begin, 0, AT_ONCE_MS * 1000);
    assert_non_null(strstr(said, "processes, as the kernel has them:\n"));
}

/* ---- watching ---- */

int begin_watch(const struct broker *b)
{
    int sock = control_send(b, "watch", 6);
    expect_answered_at_once(b); /* asked later */
    return sock;
}

bool watch_for(int sock, struct watcher *w, int quiet_ms)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    ssize_t got;
    while ((got = control_packet(sock, packet, quiet_ms)) > 0) {
        assert_int_equal(*packet, CONTROL_OUT);
        for (ssize_t i = 1; i < got; i++) {
            assert_true(w->len < sizeof w->line - 1);
            w->line[w->len++] = packet[i];
            if (packet[i] != '\n')
                continue;
            w->line[w->len] = '\0';
            if (!is_json(w->line))
                fail_msg("not JSON: %s", w->line);
            bool is_gap = strcmp(w->line, "{\"not_shown\":true}\n") == 0;
            assert_true(is_gap || strncmp(w->line, "{\"time\":\"20", 11) == 0);
            w->gaps += is_gap;
            w->records += !is_gap;
            w->len = 0;
        }
    }
    return got < 0;
}

void expect_record(int sock, const char *part)
{
    static char packet[CONTROL_PACKET_MAX + 1];
    assert_true(control_packet(sock, packet, 1000) > 0);
    if (*packet != CONTROL_OUT || !strstr(packet, part) || !is_json(packet + 1))
        fail_msg("not a record of %s: %s", part, packet);
}
