/*
 * The audit: every record is one line of JSON whatever a client asks for, and no sink loses one uncounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../broker/audit.h"
#include "../../common/escape.h"
#include "../../common/sock.h"
#include "../../common/util.h"
#include "leak.h"

enum { PATH_LEN_MAX = 4095 };

/* RFC 8259, of which a record uses one object without blanks. No character needs a pair of surrogates. */
#define STRING "\"([^\"\\[:cntrl:]]|\\\\([\"\\/bfnrt]|u([0-9a-ce-f][0-9a-f]|d[0-7])[0-9a-f]{2}))*\""
#define MEMBER STRING ":(" STRING "|0|[1-9][0-9]*|true|false|null)"
#define JSON "^\\{" MEMBER "(," MEMBER ")*\\}$"

static regex_t json;
static char folder[] = "/tmp/fob-test-audit-XXXXXX";
static char file[64], other[64];
static char content[4 << 20]; /* of the file */

static int setup(void **state)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (leak_setup(state) < 0 || mkdtemp(folder) == NULL ||
        regcomp(&json, JSON, REG_EXTENDED | REG_NOSUB) != 0)
        return -1;
    snprintf(file, sizeof file, "%s/audit", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    return 0;
}

static int teardown(void **state)
{
    unlink(file);
    unlink(other);
    regfree(&json);
    return rmdir(folder) < 0 ? -1 : leak_teardown(state);
}

static bool is_json(const char *line)
{
    return escape_is_utf8(line, strlen(line)) && regexec(&json, line, 0, NULL, 0) == 0;
}

/* JSON is written here with the other quotes. */
static char *set_quotes(char *text)
{
    for (char *quote = text; (quote = strchr(quote, '\'')) != NULL;)
        *quote = '"';
    return text;
}

static void test_the_check(void **state)
{
    (void)state;
    char bad[] = "{} [1] {'a':01} {'a':-} {'a':} {'a':nul} {'a':1,} {'a':1 {'a':'} {'a':1}{} {'a':'\\x41'} "
                 "{'a':'\\u12g4'} {'a':'\\ud800'} {'a':'\n'} {'a':'\x7f'} {'a':'\xff'} {'a':'\xc3'} "
                 "{'a':'\xc0\x80'} {'a':'\xed\xa0\x80'} {'a':1}\n";
    assert_true(is_json("{\"a\":0,\"b\":\"\\u00e9\xc3\xa9\\n\",\"c\":null,\"d\":12}"));
    for (char *rest, *line = strtok_r(set_quotes(bad), " ", &rest); line; line = strtok_r(NULL, " ", &rest))
        if (is_json(line))
            fail_msg("taken for JSON: %s", line);
}

/* ---- records ---- */

static const struct audit_record RECORD = {
    .reason = "rule", .op = "open", .uid = 1000, .pid = 42, .allowed = true, .path = "/srv/a", .path_len = 6
};

/* The line, without its newline, after a check of its form. */
static const char *format(const struct audit_record *record, int64_t time_us)
{
    static char line[AUDIT_LINE_MAX];
    size_t len = audit_format(line, sizeof line, record, time_us);
    assert_in_range(len, 2, sizeof line);
    assert_ptr_equal(memchr(line, '\n', len), line + len - 1);
    line[len - 1] = '\0';
    if (strlen(line) != len - 1 || !is_json(line))
        fail_msg("not JSON: %s", line);
    return line;
}

static void expect_part(const char *line, const char *part)
{
    char quoted[512];
    snprintf(quoted, sizeof quoted, "%s", part);
    if (!strstr(line, set_quotes(quoted)))
        fail_msg("%s is not in %s", quoted, line);
}

static void test_fields(void **state)
{
    (void)state;
    const char *line = format(&RECORD, 1700000000123456);
    expect_part(line, "{'time':'2023-11-14T22:13:20.123456Z','decision':'allowed','errno':null,");
    expect_part(line, ",'reason':'rule','rule':null,'id':null,'generation':0,'uid':1000,'gid':0,'pid':42,'op'"
                      ":'open','rights':");
    expect_part(line, ",'path':'/srv/a','real':null,'dev':null,'ino':null,'as':null,'sealed':false,");
    struct audit_record record = { .error = EACCES, .reason = "default", .pid = 4194304, .op = "check" };
    record.rule_file = "/p/\"a\"", record.rule_line = 12, record.rule_id = "x-1", record.uid = UINT32_MAX;
    record.has_file = true, record.dev = makedev(0xfe, 1), record.ino = UINT64_MAX, record.sealed = true;
    record.as = "user:bob", record.real = "/", record.real_len = 1;
    line = format(&record, 0);
    expect_part(line, "Z','decision':'refused','errno':'EACCES','reason':'default','rule':'/p/\\'a\\':12',");
    expect_part(line, ",'id':'x-1','generation':0,'uid':4294967295,'gid':0,'pid':4194304,'op':'check',");
    expect_part(line, ",'path':null,'real':'/','dev':'fe:01','ino':18446744073709551615,'as':'user:bob',");
    expect_part(line, ",'sealed':true,'latency_us':0}");
    /* by one string that is no UTF-8 all are written raw */
    record.error = 4711, record.path = "\xc3\xa9\xff", record.path_len = 3;
    record.real = "\xc3\xa9", record.real_len = 2;
    line = format(&record, 0);
    expect_part(line, "Z','raw':true,'decision':'refused','errno':'E4711',");
    expect_part(line, ",'path':'\\u00c3\\u00a9\\u00ff','real':'\\u00c3\\u00a9',");
}

/* Against the C library's calendar. */
static void test_time(void **state)
{
    (void)state;
    static const time_t edges[] = { 0, 86399, 68169600, 951782399, 951868799, 951868800, 4107542400 };
    unsigned seed = 5;
    for (size_t i = 0; i < 2000; i++) {
        time_t seconds = i < ARRAY_SIZE(edges) ? edges[i] : (time_t)rand_r(&seed) * 7;
        char expected[64];
        struct tm tm;
        strftime(expected, sizeof expected, "{\"time\":\"%Y-%m-%dT%H:%M:%S.000042Z\",",
                 gmtime_r(&seconds, &tm));
        assert_memory_equal(format(&RECORD, seconds * 1000000 + 42), expected, strlen(expected));
    }
}

enum { BYTES, CONTROLS, ASCII, WIDE, MIXED, KINDS };

/* Any bytes but NUL; controls, which grow most; ASCII; longer characters; those with bytes among them. */
static void make_path(char *out, size_t len, unsigned kind, unsigned *seed)
{
    static const char wide[][5] = { "\xc3\xa9", "\xe2\x80\xae", "\xf0\x9f\x98\x80", "\xc2\x85" };
    static const unsigned ranges[KINDS] = { 255, 31, 127, 127, 255 };
    for (size_t i = 0; i < len; i++) {
        unsigned r = (unsigned)rand_r(seed) >> 4;
        size_t w = r % ARRAY_SIZE(wide), n = strlen(wide[w]);
        out[i] = (char)(1 + r % ranges[kind]);
        if (i + n <= len && (kind == WIDE || (kind == MIXED && r % 64))) {
            memcpy(out + i, wide[w], n);
            i += n - 1;
        }
    }
}

static void test_any_path(void **state)
{
    (void)state;
    static char path[PATH_LEN_MAX + 1], real[PATH_LEN_MAX + 1];
    struct audit_record record = RECORD;
    unsigned seed = 1;
    for (size_t len = 0; len <= PATH_LEN_MAX; len += getenv("FOB_VALGRIND") ? 91 : 1) {
        make_path(path, len, len % KINDS, &seed);
        make_path(real, PATH_LEN_MAX - len, len / KINDS % KINDS, &seed);
        record.path = path;
        record.path_len = len;
        record.real = len % 3 ? real : NULL;
        record.real_len = PATH_LEN_MAX - len;
        const char *line = format(&record, 0);
        bool raw = !escape_is_utf8(path, len) || (record.real && !escape_is_utf8(real, record.real_len));
        assert_int_equal(strstr(line, "Z\",\"raw\":true,\"") != NULL, raw);
        for (; raw && *line; line++)
            assert_in_range(*line, ' ', '~');
    }
}

/* The longest paths fit; in too little room nothing is written, nor beyond it. */
static void test_sizes(void **state)
{
    (void)state;
    static char worst[PATH_LEN_MAX];
    struct audit_record record = RECORD;
    record.path = record.real = memset(worst, 1, sizeof worst);
    record.path_len = record.real_len = sizeof worst;
    assert_true(strlen(format(&record, 0)) > (size_t)2 * 6 * PATH_LEN_MAX);
    record.path_len = record.real_len = 20;
    size_t whole = strlen(format(&record, 0)) + 1;
    for (size_t size = 0; size < whole; size++) {
        char *room = malloc(size ? size : 1); /* so that a checker of memory sees its end */
        assert_true(room && audit_format(room, size, &record, 0) == 0);
        free(room);
    }
}

/* ---- the file ---- */

static size_t read_file(void)
{
    CLEANUP(fd_cleanup) int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, content, sizeof content);
    assert_in_range(len, 0, sizeof content - 1);
    content[len] = '\0';
    return (size_t)len;
}

/* How many lines the file has. Each is a record, but for those of which the number is a bit of `torn`. */
static int count_lines(unsigned torn)
{
    int n = 0;
    read_file();
    for (char *at = content, *newline; *at; at = newline + 1) {
        newline = strchr(at, '\n');
        assert_non_null(newline);
        *newline = '\0';
        assert_int_equal(is_json(at), ++n >= 32 || !(torn >> n & 1));
    }
    return n;
}

static struct audit *open_audit(enum config_audit kind)
{
    struct audit *audit = NULL;
    assert_int_equal(audit_open(&audit, kind, file), 0);
    assert_true(audit_works(audit) && audit_lost(audit) == 0);
    return audit;
}

static void add(struct audit *audit, int n)
{
    while (n-- > 0)
        audit_add(audit, &RECORD);
}

static void test_file_is_made_and_appended_to(void **state)
{
    (void)state;
    struct stat st;
    for (int round = 1; round <= 3; round++) {
        mode_t old = umask(0);
        struct audit *audit = open_audit(CONFIG_AUDIT_FILE);
        umask(old);
        assert_int_equal(fcntl(audit_fd(audit), F_GETFD), FD_CLOEXEC);
        assert_true(stat(file, &st) == 0 && st.st_mode == (S_IFREG | 0600));
        add(audit, 1);
        assert_int_equal(count_lines(0), round - 1); /* collected */
        audit_flush(audit);
        assert_int_equal(count_lines(0), round);
        audit_close(audit);
    }
}

static int try_open(const char *name)
{
    struct audit *audit;
    int err = audit_open(&audit, CONFIG_AUDIT_FILE, name);
    if (err == 0)
        audit_close(audit);
    return err;
}

static void make_file(const char *name, mode_t mode)
{
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "kept\n", 5), 5);
    assert_int_equal(fchmod(fd, mode), 0);
    fd_close(fd);
}

static void test_file_of_others(void **state)
{
    (void)state;
    static const mode_t modes[] = { 0600, 0644, 0640, 0755, 0620, 0602, 0660, 0666, 0777 };
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        make_file(file, modes[i]);
        assert_int_equal(try_open(file), modes[i] & 022 ? -EPERM : 0);
        assert_int_equal(read_file(), 5);
        unlink(file);
    }
    make_file(file, 0600);
    if (geteuid() == 0 && chown(file, 2001, 2001) == 0)
        assert_int_equal(try_open(file), -EPERM);
}

static void test_no_file(void **state)
{
    (void)state;
    assert_int_equal(symlink(other, file), 0);
    assert_int_equal(try_open(file), -ELOOP);
    assert_true(access(other, F_OK) < 0); /* nothing was made at its end */
    make_file(other, 0600);
    assert_int_equal(try_open(file), -ELOOP);
    unlink(file);
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_int_equal(try_open(file), -EPERM); /* and no waiting for a reader */
    int reader = open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(try_open(file), -EPERM);
    fd_close(reader);
    assert_int_equal(try_open(folder), -EISDIR);
    assert_int_equal(try_open("/dev/full"), -EPERM);
    assert_int_equal(try_open("/dev/null/none"), -ENOTDIR);
}

/* ---- losses ---- */

/* As on a disk where `room` bytes are left: write(2) is cut there, and fails after it. The losses so far. */
static unsigned flush_with_room(struct audit *audit, size_t room)
{
    struct rlimit before;
    struct stat st;
    assert_int_equal(fstat(audit_fd(audit), &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ (rlim_t)st.st_size + room, before.rlim_max });
    audit_flush(audit);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_false(audit_works(audit));
    return (unsigned)audit_lost(audit);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct audit *audit = open_audit(CONFIG_AUDIT_FILE);
    add(audit, 1);
    audit_flush(audit);
    size_t line = read_file();
    add(audit, 3);
    assert_int_equal(flush_with_room(audit, line + 10), 2); /* of three lines there are one and ten bytes */
    add(audit, 2);
    assert_int_equal(flush_with_room(audit, 0), 4); /* nor can the torn line be ended */
    assert_int_equal(read_file(), 2 * line + 10);
    add(audit, 1);
    assert_int_equal(flush_with_room(audit, 1), 5); /* now it can, and no more */
    add(audit, 2);
    assert_int_equal(flush_with_room(audit, line), 6); /* cut between two lines: nothing to end */
    add(audit, 1);
    assert_int_equal(flush_with_room(audit, 2), 7);
    for (int i = 0; i < 3; i++) {
        add(audit, 1);
        audit_flush(audit);
        assert_true(audit_works(audit) && audit_lost(audit) == 7);
    }
    assert_int_equal(count_lines(1 << 3 | 1 << 5), 8);
    audit_close(audit);
}

/* Standard error is here a full device. */
static void test_stderr(void **state)
{
    (void)state;
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct audit *audit = open_audit(CONFIG_AUDIT_STDERR);
    add(audit, 3);
    dup2(full, STDERR_FILENO);
    errno = EDOM;
    audit_flush(audit);
    int kept = errno, fd = audit_fd(audit);
    bool worked = audit_works(audit), lost_all = audit_lost(audit) == 3;
    audit_close(audit);
    bool open_still = fcntl(STDERR_FILENO, F_GETFD) >= 0;
    dup2(saved, STDERR_FILENO);
    fd_close_many((int[]){ saved, full }, 2);
    assert_true(open_still && lost_all && !worked && kept == EDOM && fd == STDERR_FILENO);
}

/* ---- batches ---- */

static void test_full_batch(void **state)
{
    (void)state;
    enum { RECORDS = 400 };
    static char path[PATH_LEN_MAX];
    struct audit_record record = RECORD;
    struct audit *audit = open_audit(CONFIG_AUDIT_FILE);
    record.path = record.real = memset(path, 1, sizeof path);
    int written = 0;
    for (int i = 0; i < RECORDS; i++) {
        record.path_len = record.real_len = i % 7 ? 30 : sizeof path;
        errno = EDOM;
        audit_add(audit, &record);
        assert_int_equal(errno, EDOM);
        if (i % 10 == 0)
            written = count_lines(0); /* whole ones only */
    }
    assert_in_range(written, RECORDS / 2, RECORDS);
    audit_flush(audit);
    assert_int_equal(count_lines(0), RECORDS);
    assert_true(audit_works(audit) && audit_lost(audit) == 0);
    audit_close(audit);
}

static void test_none(void **state)
{
    (void)state;
    struct audit *audit = open_audit(CONFIG_AUDIT_NONE);
    assert_int_equal(audit_fd(audit), -1);
    add(audit, 1000);
    audit_flush(audit);
    assert_true(audit_works(audit) && audit_lost(audit) == 0);
    audit_close(audit);
}

/* ---- syslog ---- */

enum { FLOOD = 600, DRAINED = 3 };

/* What the child with a /dev of its own found. */
static struct {
    bool ran, worked, works_again;
    int without;
    unsigned lost;
} * found;

static void ask_syslog(int daemon)
{
    struct audit *audit;
    struct sockaddr_un addr;
    char byte;
    found->without = audit_open(&audit, CONFIG_AUDIT_SYSLOG, NULL);
    if (bind(daemon, (struct sockaddr *)&addr, (socklen_t)sock_address(&addr, "/dev/log")) < 0 ||
        audit_open(&audit, CONFIG_AUDIT_SYSLOG, NULL) < 0)
        return;
    add(audit, FLOOD); /* more than its queue takes */
    audit_flush(audit);
    found->worked = audit_works(audit);
    found->lost = (unsigned)audit_lost(audit);
    for (int i = 0; i < DRAINED; i++)
        recv(daemon, &byte, 1, 0);
    add(audit, 1);
    audit_flush(audit);
    found->works_again = audit_works(audit);
}

static void test_syslog(void **state)
{
    (void)state;
    static const char tag[] = "<86>fobd: ";
    found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int daemon = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), status;
    pid_t child = fork();
    if (child == 0) {
        alarm(30); /* for a send that waits */
        found->ran = unshare(CLONE_NEWNS) == 0 &&
                     mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
                     mount("tmpfs", "/dev", "tmpfs", 0, "size=1m") == 0;
        if (found->ran)
            ask_syslog(daemon);
        _exit(0);
    }
    assert_true(waitpid(child, &status, 0) == child && status == 0);
    unsigned received = DRAINED;
    for (ssize_t len; (len = recv(daemon, content, sizeof content - 1, MSG_DONTWAIT)) >= 0; received++) {
        content[len] = '\0';
        assert_memory_equal(content, tag, sizeof tag - 1);
        assert_true(strlen(content) == (size_t)len && is_json(content + sizeof tag - 1)); /* no newline */
    }
    fd_close(daemon);
    if (!found->ran) {
        print_message("skipped: no mount namespace can be made here, and /dev/log is not for tests\n");
        skip();
    }
    assert_true(found->without == -ENOENT && !found->worked && found->works_again);
    assert_in_range(found->lost, 1, FLOOD - DRAINED);
    assert_int_equal(found->lost + received, FLOOD + 1);
    munmap(found, sizeof *found);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = { TEST(test_the_check),      TEST(test_fields),
                                        TEST(test_time),           TEST(test_any_path),
                                        TEST(test_sizes),          TEST(test_file_is_made_and_appended_to),
                                        TEST(test_file_of_others), TEST(test_no_file),
                                        TEST(test_full_disk),      TEST(test_stderr),
                                        TEST(test_full_batch),     TEST(test_none),
                                        TEST(test_syslog) };
    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
