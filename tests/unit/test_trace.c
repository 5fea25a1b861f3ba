/*
 * client/trace: what a relay must not lose (boundaries, descriptors and their place in a stream, empty
 * packets), what a descriptor is said to be; and, as `test_trace --decode FILE`, the decoder for
 * tests/golden/trace.sh.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../client/trace/framer.h"
#include "../../client/trace/packet.h"
#include "../../client/trace/relay.h"
#include "../../client/trace/show.h"
#include "../../common/msg.h"
#include "../../common/util.h"

/* ---- text of what a function prints ---- */

struct text {
    char *bytes;
    size_t len;
    FILE *out;
};

static void text_begin(struct text *text)
{
    *text = (struct text){ 0 };
    text->out = open_memstream(&text->bytes, &text->len);
    assert_non_null(text->out);
}

static const char *text_of(struct text *text)
{
    assert_int_equal(fflush(text->out), 0);
    return text->bytes;
}

static void text_end(struct text *text)
{
    assert_int_equal(fclose(text->out), 0);
    free(text->bytes);
}

static void assert_has(struct text *text, const char *part)
{
    if (strstr(text_of(text), part) == NULL)
        fail_msg("not there: %s\nin:\n%s", part, text->bytes);
}

/* ---- sockets ---- */

static struct packet packet; /* large */

static void make_pair(int type, int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(relay_set_options(pair[0]), 0);
    assert_int_equal(relay_set_options(pair[1]), 0);
}

static void close_pair(int pair[2])
{
    fd_close_many(pair, 2);
}

static void expect_packet(int sock, int type, const char *bytes, size_t n_fds)
{
    assert_int_equal(packet_receive(sock, type, &packet), 1);
    assert_true(packet.full);
    assert_true(packet.has_cred);
    assert_int_equal(packet.cred.pid, getpid());
    assert_int_equal(packet.cred.uid, getuid());
    assert_int_equal(packet.len, strlen(bytes));
    assert_memory_equal(packet.bytes, bytes, packet.len);
    assert_int_equal(packet.n_fds, n_fds);
    assert_false(packet.cut || packet.lost || packet.odd);
}

static void test_packets(void **state)
{
    (void)state;
    int pair[2], on[2], fds[3] = { 0, 0, 0 }, before = fd_count();
    struct msg_in in;
    char buf[16];
    make_pair(SOCK_SEQPACKET, pair);
    make_pair(SOCK_SEQPACKET, on);
    assert_int_equal(packet_receive(pair[1], SOCK_SEQPACKET, &packet), -EAGAIN);
    assert_int_equal(msg_send(pair[0], "one", 3, fds, 3, NULL, 0), 0);
    assert_int_equal(msg_send(pair[0], "two", 3, NULL, 0, NULL, 0), 0);
    expect_packet(pair[1], SOCK_SEQPACKET, "one", 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fcntl(packet.fds[i], F_GETFD), FD_CLOEXEC);
    assert_int_equal(packet_pass(on[0], &packet), 0);
    assert_false(packet.full);
    assert_int_equal(packet.n_fds, 0);
    expect_packet(pair[1], SOCK_SEQPACKET, "two", 0);
    packet_clear(&packet);
    assert_int_equal(msg_recv(on[1], buf, sizeof buf, 0, &in), 1);
    assert_int_equal(in.len, 3);
    assert_int_equal(in.n_fds, 3);
    fd_close_many(in.fds, in.n_fds);
    close_pair(pair);
    close_pair(on);
    assert_int_equal(fd_count(), before);
}

/* An empty packet and the end both read as 0; only the first has credentials. */
static void test_empty_packet_and_end(void **state)
{
    (void)state;
    int pair[2], on[2];
    make_pair(SOCK_SEQPACKET, pair);
    make_pair(SOCK_SEQPACKET, on);
    assert_int_equal(send(pair[0], "", 0, 0), 0);
    assert_int_equal(send(pair[0], "x", 1, 0), 1);
    pair[0] = fd_close(pair[0]);
    expect_packet(pair[1], SOCK_SEQPACKET, "", 0);
    assert_int_equal(packet_pass(on[0], &packet), 0);
    expect_packet(pair[1], SOCK_SEQPACKET, "x", 0);
    assert_int_equal(packet_receive(pair[1], SOCK_SEQPACKET, &packet), 0);
    assert_false(packet.full);
    expect_packet(on[1], SOCK_SEQPACKET, "", 0);
    packet_clear(&packet);
    close_pair(pair);
    close_pair(on);
}

/* Byte by byte: how many descriptors come with each. */
static void expect_bytes(int sock, const char *bytes, const char *counts)
{
    struct msg_in in;
    for (; *bytes != '\0'; bytes++, counts++) {
        char byte;
        assert_int_equal(msg_recv(sock, &byte, 1, MSG_DONTWAIT, &in), 1);
        assert_int_equal(byte, *bytes);
        assert_int_equal(in.n_fds, *counts - '0');
        fd_close_many(in.fds, in.n_fds);
    }
}

static void test_stream_keeps_the_place(void **state)
{
    (void)state;
    int pair[2], on[2], fds[2] = { 0, 0 }, before = fd_count();
    make_pair(SOCK_STREAM, pair);
    make_pair(SOCK_STREAM, on);
    assert_int_equal(msg_send(pair[0], "abc", 3, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_send(pair[0], "de", 2, NULL, 0, NULL, 0), 0);
    assert_int_equal(msg_send(pair[0], "Fg", 2, fds, 1, NULL, 0), 0);
    assert_int_equal(msg_send(pair[0], "H", 1, fds, 2, NULL, 0), 0);
    assert_int_equal(msg_send(pair[0], "ijk", 3, NULL, 0, NULL, 0), 0);
    pair[0] = fd_close(pair[0]);
    expect_packet(pair[1], SOCK_STREAM, "abcdeFg", 1);
    assert_int_equal(packet.fds_at, 5);
    assert_int_equal(packet_pass(on[0], &packet), 0);
    expect_packet(pair[1], SOCK_STREAM, "H", 2);
    assert_int_equal(packet.fds_at, 0);
    assert_int_equal(packet_pass(on[0], &packet), 0);
    expect_packet(pair[1], SOCK_STREAM, "ijk", 0);
    assert_int_equal(packet_pass(on[0], &packet), 0);
    assert_int_equal(packet_receive(pair[1], SOCK_STREAM, &packet), 0);
    expect_bytes(on[1], "abcdeFgHijk", "00000102000");
    close_pair(pair);
    close_pair(on);
    assert_int_equal(fd_count(), before);
}

/* A stream that takes a part: the rest goes later, without descriptors. */
static void test_stream_goes_on(void **state)
{
    (void)state;
    int pair[2], fds[1] = { 0 };
    size_t got = 0, n_fds = 0;
    static struct packet in;
    make_pair(SOCK_STREAM, pair);
    packet.full = true;
    packet.len = PACKET_MAX;
    packet.sent = 0;
    memset(packet.bytes, 'x', PACKET_MAX);
    packet.fds[0] = dup(fds[0]);
    packet.n_fds = 1;
    int err = packet_pass(pair[0], &packet);
    assert_int_equal(err, -EAGAIN);
    assert_true(packet.full && packet.sent > 0 && packet.n_fds == 0);
    while (got < PACKET_MAX) {
        assert_int_equal(packet_receive(pair[1], SOCK_STREAM, &in), 1);
        got += in.len;
        n_fds += in.n_fds;
        packet_clear(&in);
        err = packet.full ? packet_pass(pair[0], &packet) : 0;
        assert_true(err == 0 || err == -EAGAIN);
    }
    assert_int_equal(got, PACKET_MAX);
    assert_int_equal(n_fds, 1);
    close_pair(pair);
}

static void test_too_long(void **state)
{
    (void)state;
    int pair[2], size = 4 * PACKET_MAX, set;
    socklen_t len = sizeof set;
    make_pair(SOCK_SEQPACKET, pair);
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    assert_int_equal(getsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &set, &len), 0);
    if (set < size) {
        close_pair(pair);
        puts("skipped: needs CAP_NET_ADMIN for a larger buffer");
        skip();
    }
    char *bytes = mem_zalloc(1, PACKET_MAX + 10);
    assert_int_equal(send(pair[0], bytes, PACKET_MAX + 10, 0), PACKET_MAX + 10);
    free(bytes);
    assert_int_equal(packet_receive(pair[1], SOCK_SEQPACKET, &packet), 1);
    assert_true(packet.cut);
    assert_int_equal(packet.len, PACKET_MAX);
    assert_int_equal(packet.real_len, PACKET_MAX + 10);
    packet_clear(&packet);
    close_pair(pair);
}

static void test_no_room_for_descriptors(void **state)
{
    (void)state;
    int pair[2], fds[8] = { 0 }, before = fd_count();
    struct rlimit limit, small;
    if (getenv("FOB_VALGRIND") != NULL)
        skip(); /* it keeps descriptors of its own beyond the limit */
    make_pair(SOCK_SEQPACKET, pair);
    assert_int_equal(msg_send(pair[0], "x", 1, fds, ARRAY_SIZE(fds), NULL, 0), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    int lowest = dup(0);
    small = limit;
    small.rlim_cur = (rlim_t)lowest + 3;
    fd_close(lowest);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    int got = packet_receive(pair[1], SOCK_SEQPACKET, &packet);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(got, 1);
    assert_true(packet.lost);
    assert_in_range(packet.n_fds, 1, 3);
    assert_true(packet.has_cred);
    packet_clear(&packet);
    close_pair(pair);
    assert_int_equal(fd_count(), before);
}

/* ---- what a descriptor is ---- */

static void expect_descriptor(int fd, const char *a, const char *b, const char *c)
{
    struct text text;
    text_begin(&text);
    show_descriptor(text.out, 3, fd);
    assert_has(&text, "    descriptor 3: here ");
    assert_has(&text, a);
    assert_has(&text, b);
    assert_has(&text, c);
    const char *second = strchr(text_of(&text), '\n');
    assert_non_null(second);
    assert_ptr_equal(strchr(second + 1, '\n'), text.bytes + text.len - 1);
    text_end(&text);
    fd_close(fd);
}

static void test_descriptors(void **state)
{
    (void)state;
    char folder[] = "/tmp/fob-trace.XXXXXX", name[64], inode[128];
    struct stat st;
    int pipes[2];
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/a\nb", folder);
    int fd = open(name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, 0640), 0);
    assert_int_equal(write(fd, "12345", 5), 5);
    assert_int_equal(fstat(fd, &st), 0);
    snprintf(inode, sizeof inode, "inode %llu, size 5, mode 0640, uid %u", (unsigned long long)st.st_ino,
             st.st_uid);
    expect_descriptor(dup(fd), "regular file, dev ", inode, "O_RDWR|O_APPEND");
    expect_descriptor(fd, ", offset 5, ", "/a\\nb\n", "path /tmp/fob-trace.");
    assert_int_equal(unlink(name), 0);
    expect_descriptor(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "directory", "O_DIRECTORY", folder);
    expect_descriptor(open(folder, O_PATH | O_CLOEXEC), "directory", "O_PATH", folder);
    expect_descriptor(open("/dev/null", O_WRONLY | O_CLOEXEC), "character device 1:3", "O_WRONLY",
                      "path /dev/null\n");
    expect_descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket", "O_RDWR", "path socket:[");
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    expect_descriptor(pipes[0], "FIFO", "O_RDONLY", "path pipe:[");
    expect_descriptor(pipes[1], "FIFO", "O_WRONLY", "path pipe:[");
    expect_descriptor(-1, "statx: EBADF", "", "");
    assert_int_equal(rmdir(folder), 0);
}

static void expect_flags(int oflags, const char *expected)
{
    struct text text;
    text_begin(&text);
    show_open_flags(text.out, oflags);
    assert_string_equal(text_of(&text), expected);
    text_end(&text);
}

static void test_open_flags(void **state)
{
    (void)state;
    expect_flags(0, "O_RDONLY");
    expect_flags(O_RDWR | O_CREAT | O_EXCL | O_TRUNC, "O_RDWR|O_CREAT|O_EXCL|O_TRUNC");
    expect_flags(O_WRONLY | O_SYNC, "O_WRONLY|O_SYNC");
    expect_flags(O_WRONLY | O_DSYNC, "O_WRONLY|O_DSYNC");
    expect_flags(O_RDWR | O_TMPFILE, "O_RDWR|O_TMPFILE");
    expect_flags(O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC,
                 "O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC|O_PATH");
    expect_flags(O_ACCMODE | 0x40000000, "O_ACCMODE|0x40000000");
}

/* ---- nothing that is sent breaks the decoder ---- */

static const uint8_t seed[] = "FOB1\x28\0\0\0\1\0\1\0\7\0\0\0\1\0\0\0\0\0\0\0\x0a\0\0\0/srv/notes\0";

static void test_any_bytes(void **state)
{
    (void)state;
    struct text text;
    uint8_t bytes[sizeof seed];
    srand(1);
    text_begin(&text);
    for (int round = 0; round < 20000; round++) {
        memcpy(bytes, seed, sizeof bytes);
        for (int i = rand() % 4; i >= 0; i--)
            bytes[(size_t)rand() % sizeof bytes] = (uint8_t)(rand() % 3 ? rand() : 0x80);
        size_t len = (size_t)rand() % (sizeof bytes + 1);
        uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees one byte too far */
        assert_non_null(exact);
        memcpy(exact, bytes, len);
        decode_native(text.out, rand() % 2, exact, len, (size_t)rand() % 300);
        decode_apue(text.out, rand() % 2, exact, len, (size_t)rand() % 3);
        free(exact);
        if (round % 100 == 0)
            rewind(text.out);
    }
    for (const char *at = text_of(&text); at < text.bytes + text.len; at++)
        assert_true(*at == '\n' || *at == '\0' || (*at >= 0x20 && *at < 0x7f));
    text_end(&text);
}

/* However a stream is cut, the same messages come out. */
static void test_any_cut(void **state)
{
    (void)state;
    const size_t len = sizeof seed;
    for (size_t cut = 1; cut < len; cut++) {
        struct framer framer = { 0 };
        enum protocol protocol = PROTOCOL_UNKNOWN;
        struct text text;
        text_begin(&text);
        framer_feed(&framer, text.out, &protocol, CLIENT, seed, cut, 0);
        framer_feed(&framer, text.out, &protocol, CLIENT, seed + cut, len - cut, 0);
        assert_has(&text, "    OPEN, id 7, count 1, length 40\n      [0] READ, mode 0000, path /srv/notes\n");
        assert_int_equal(framer.len, 0);
        framer_deinit(&framer);
        text_end(&text);
    }
}

/* ---- golden files: `native|apue|stream|hex client|broker|end DESCRIPTORS` begins a message of what follows:
 * u16:N u32:N, "text", hexadecimal bytes, # comments ---- */

struct golden {
    char kind[8], side[8];
    size_t n_fds, len;
    uint8_t bytes[4096];
    struct framer framers[2];
    enum protocol protocol;
};

static void golden_put(struct golden *g, const void *bytes, size_t len)
{
    if (len > sizeof g->bytes - g->len)
        exit(2);
    memcpy(g->bytes + g->len, bytes, len);
    g->len += len;
}

static void golden_stream(struct golden *g, enum side from)
{
    if (strcmp(g->side, "end") != 0) {
        framer_feed(&g->framers[from], stdout, &g->protocol, from, g->bytes, g->len, g->n_fds);
        return;
    }
    for (int i = 0; i < 2; i++) {
        framer_end(&g->framers[i], stdout);
        framer_deinit(&g->framers[i]);
    }
    memset(g->framers, 0, sizeof g->framers);
    g->protocol = PROTOCOL_UNKNOWN;
}

static void golden_show(struct golden *g)
{
    enum side from = strcmp(g->side, "broker") == 0 ? BROKER : CLIENT;
    if (*g->kind == '\0')
        return;
    printf("%s %s, %zu bytes, %zu descriptors\n", g->kind, g->side, g->len, g->n_fds);
    if (strcmp(g->kind, "native") == 0)
        decode_native(stdout, from, g->bytes, g->len, g->n_fds);
    else if (strcmp(g->kind, "apue") == 0)
        decode_apue(stdout, from, g->bytes, g->len, g->n_fds);
    else if (strcmp(g->kind, "stream") == 0)
        golden_stream(g, from);
    else
        show_hex(stdout, g->bytes, g->len);
    g->len = 0;
}

/* One word at `at`; where it ends. */
static char *golden_word(struct golden *g, char *at)
{
    char *end = at;
    unsigned long value;
    if (*at == '"') {
        end = strchr(at + 1, '"');
        if (end == NULL)
            exit(2);
        golden_put(g, at + 1, (size_t)(end - at - 1));
        return end + 1;
    }
    bool is_number = *at == 'u';
    value = strtoul(is_number ? at + 4 : at, &end, is_number ? 0 : 16);
    if (end == at || (*end != ' ' && *end != '\0'))
        exit(2);
    if (is_number && at[1] == '3')
        golden_put(g, &(uint32_t){ (uint32_t)value }, sizeof(uint32_t));
    else if (is_number)
        golden_put(g, &(uint16_t){ (uint16_t)value }, sizeof(uint16_t));
    else
        golden_put(g, &(uint8_t){ (uint8_t)value }, 1);
    return end;
}

static int decode_file(const char *name)
{
    static struct golden g;
    char line[1024];
    FILE *in = fopen(name, "re");
    if (in == NULL)
        return 1;
    while (fgets(line, sizeof line, in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strchr("nash", *line) != NULL && *line != '\0') { /* native, apue, stream, hex */
            golden_show(&g);
            if (sscanf(line, "%7s %7s %zu", g.kind, g.side, &g.n_fds) != 3)
                return 2;
            continue;
        }
        for (char *at = line + strspn(line, " "); *at != '\0' && *at != '#'; at += strspn(at, " "))
            at = golden_word(&g, at);
    }
    golden_show(&g);
    fclose(in);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),
        cmocka_unit_test(test_empty_packet_and_end),
        cmocka_unit_test(test_stream_keeps_the_place),
        cmocka_unit_test(test_stream_goes_on),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_no_room_for_descriptors),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_open_flags),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_any_cut),
    };
    if (argc == 3 && strcmp(argv[1], "--decode") == 0)
        return decode_file(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
