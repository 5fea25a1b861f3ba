/*
 * threats.md, section D: what stands behind the name. The number of a test is that of its row.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include <linux/fs.h>

#include "../../common/sock.h"
#include "../../common/util.h"

static const char policy[] = "allow user:2001,user:2002 read,write,append,create @/al/**\n"
                             "allow user:2001 read,stat @/pub/**\n";

/* ---- 52: FIFO ---- */

static void ask_fifo(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "al/p"), WIRE_READ, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/p"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/p"), WIRE_READ | WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/p"), WIRE_READ | WIRE_NONBLOCK, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/p"), WIRE_WRITE | WIRE_CREATE, NULL), EPERM);
}

/* The other side sees no open: a writer without a reader gets ENXIO, a reader sees no hang-up. */
static void test_52_fifo(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    assert_int_equal(mkfifo(at(&b, "al/p"), 0666), 0);
    int reader = open(at(&b, "al/p"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    as_user(&b, ALICE, ask_fifo, NULL);
    struct pollfd seen = { .fd = reader, .events = POLLIN };
    assert_int_equal(poll(&seen, 1, 0), 0); /* POLLHUP would tell of a writer that came and went */
    close(reader);
    as_user(&b, ALICE, ask_fifo, NULL);
    assert_int_equal(open(at(&b, "al/p"), O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
    assert_int_equal(errno, ENXIO);
    broker_finish(&b);
}

static void ask_fifo_by_type(struct client_env *env)
{
    int fd;
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/p"), WIRE_READ, &fd), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    CHECK(S_ISFIFO(st.st_mode));
}

static void test_52_fifo_that_the_rule_names(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/al/** type=fifo\n");
    assert_int_equal(mkfifo(at(&b, "al/p"), 0600), 0);
    as_user(&b, ALICE, ask_fifo_by_type, NULL);
    broker_finish(&b);
}

/* ---- 53: devices ---- */

static void ask_devices(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "al/null"), WIRE_READ, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/null"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/mem"), WIRE_READ | WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/ptmx"), WIRE_READ | WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/disk"), WIRE_READ, NULL), EPERM);
}

static void make_devices(const struct broker *b)
{
    assert_int_equal(mknod(at(b, "al/null"), S_IFCHR | 0666, makedev(1, 3)), 0);
    assert_int_equal(mknod(at(b, "al/mem"), S_IFCHR | 0666, makedev(1, 1)), 0);
    assert_int_equal(mknod(at(b, "al/ptmx"), S_IFCHR | 0666, makedev(5, 2)), 0);
    assert_int_equal(mknod(at(b, "al/disk"), S_IFBLK | 0666, makedev(7, 200)), 0);
}

static void test_53_devices(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    make_devices(&b);
    as_user(&b, ALICE, ask_devices, NULL);
    assert_int_equal(audit_count(&b, "\"reason\":\"type\"", "EPERM"), 5);
    broker_finish(&b);
}

static void ask_device_by_type(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/null"), WIRE_READ, NULL), *(int *)env->data);
}

/* type=chr alone does not open one: the sealed clone is nodev. With seal=no it does. */
static void test_53_device_that_the_rule_names(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/al/** type=chr\n");
    make_devices(&b);
    as_user(&b, ALICE, ask_device_by_type, &(int){ EACCES });
    broker_finish(&b);
    broker_begin(&b, "allow user:2001 read @/al/** type=chr seal=no\n");
    make_devices(&b);
    as_user(&b, ALICE, ask_device_by_type, &(int){ 0 });
    broker_finish(&b);
}

/* ---- 54: sockets and directories ---- */

static void ask_sockets_and_directories(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "al/s"), WIRE_READ, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_READ, NULL), EACCES); /* no list */
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_DIRECTORY, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_PATH, NULL),
             EACCES); /* a directory to walk from is more than stat */
    CHECK_EQ(open_once(b, at(b, "al/d"), WIRE_WRITE, NULL), EISDIR);
    CHECK_EQ(open_once(b, at(b, "al/d"), WIRE_WRITE | WIRE_CREATE, NULL), EISDIR);
    int fd;
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_PATH, &fd), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    char byte;
    CHECK_EQ(read(fd, &byte, 1), -1);
}

static void test_54_sockets_and_directories(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    struct sockaddr_un address;
    int length = sock_address(&address, at(&b, "al/s")),
        sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, (socklen_t)length), 0);
    assert_int_equal(mkdir(at(&b, "al/d"), 0755), 0);
    as_user(&b, ALICE, ask_sockets_and_directories, NULL);
    close(sock);
    broker_finish(&b);
}

static void list_directories(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_DIRECTORY, &fd), 0);
    CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
    CHECK_EQ(faccessat(fd, "c", F_OK, 0), 0);
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_READ, &fd), 0);                       /* read and list */
    CHECK_EQ(open_once(b, at(b, "pub/sub"), WIRE_PATH | WIRE_DIRECTORY, &fd), EACCES); /* no stat */
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_DIRECTORY, NULL), ENOTDIR);
    CHECK_EQ(open_once(b, at(b, "priv"), WIRE_DIRECTORY, &fd), 0);             /* root's alone, 0700 */
    CHECK_EQ(open_once(b, at(b, "priv"), WIRE_READ | WIRE_DIRECTORY, &fd), 0); /* list alone */
    CHECK_EQ(open_once(b, at(b, "priv"), WIRE_READ, NULL), EACCES);
}

static void test_54_directories_with_list(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read,list @/pub/**\nallow user:2001 list @/priv\n");
    as_user(&b, ALICE, list_directories, NULL);
    broker_finish(&b);
}

/* The rule that gives list is another than the one that gave read, and has another as=. */
static void list_as_another_rule_says(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "priv"), WIRE_READ, NULL), EACCES); /* by the kernel: root's alone, 0700 */
    CHECK_EQ(open_once(b, at(b, "pub"), WIRE_READ, NULL), 0);
}

static void test_54_list_by_another_rule(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/priv @/pub\nallow user:2001 read,list @/priv @/pub as=caller\n");
    as_user(&b, ALICE, list_as_another_rule_says, NULL);
    assert_int_equal(audit_count(&b, "\"reason\":\"kernel\"", "EACCES"), 1);
    broker_finish(&b);
}

/* ---- 56, 57: truncation ---- */

static void truncate_wrongly(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "al/f"), WIRE_READ | WIRE_TRUNCATE, NULL), EINVAL);
    CHECK_EQ(open_once(b, at(b, "al/h"), WIRE_WRITE | WIRE_TRUNCATE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/suid"), WIRE_WRITE | WIRE_TRUNCATE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "pub/a"), WIRE_WRITE | WIRE_TRUNCATE, NULL), EACCES);
    CHECK_EQ(open_once(b, at(b, "al/f"), WIRE_WRITE | WIRE_TRUNCATE, NULL), 0);
}

static off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void test_56_57_truncation_comes_last(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "al/f"), "full\n", 0644, ALICE);
    file_write(at(&b, "al/suid"), "full\n", 04755, 0);
    assert_int_equal(link(at(&b, "secret/f"), at(&b, "al/h")), 0);
    as_user(&b, ALICE, truncate_wrongly, NULL);
    assert_int_equal(size_of(at(&b, "secret/f")), 7);
    assert_int_equal(size_of(at(&b, "al/suid")), 5);
    assert_int_equal(size_of(at(&b, "pub/a")), 6);
    assert_int_equal(size_of(at(&b, "al/f")), 0);
    broker_finish(&b);
}

/* ---- 58: leases ---- */

static void hold_lease(struct client_env *env)
{
    int *channel = env->data;
    signal(SIGIO, SIG_IGN);
    int fd = open(at(env->broker, "al/leased"), O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        skip_in_client("this file system has no leases");
    CHECK_EQ(write(channel[1], "l", 1), 1);
    sleep(30);
}

static void ask_leased(struct client_env *env)
{
    int64_t begin = now_us();
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/leased"), WIRE_READ | WIRE_NONBLOCK, NULL), EAGAIN);
    CHECK_EQ(open_once(env->broker, at(env->broker, "al/leased"), WIRE_READ, NULL), ETIMEDOUT);
    CHECK(now_us() - begin < 10000000); /* open-timeout, not lease-break-time, which is 45 s */
}

static void test_58_lease(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    broker_start(&b, policy, "workers 2\nopen-timeout 1");
    file_write(at(&b, "al/leased"), "x", 0666, ALICE);
    int channel[2];
    assert_int_equal(pipe2(channel, O_CLOEXEC), 0);
    pid_t holder = fork();
    if (holder == 0) {
        close(channel[0]);
        _exit(as_user_groups(&b, ALICE, ALICE, NULL, 0, hold_lease, channel));
    }
    close(channel[1]);
    char byte;
    bool held = read(channel[0], &byte, 1) == 1;
    close(channel[0]);
    if (held)
        as_user(&b, BOB, ask_leased, NULL);
    else
        puts("skipped: this file system has no leases");
    kill(holder, SIGKILL);
    child_wait(holder);
    (void)!system("pkill -KILL -u 2001 -f test_types >/dev/null 2>&1");
    broker_finish(&b);
}

/* ---- 59: files that are privilege ---- */

static void ask_privileged_files(struct client_env *env)
{
    const struct broker *b = env->broker;
    int fd;
    CHECK_EQ(open_once(b, at(b, "al/suid"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/suid"), WIRE_APPEND, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/sgid"), WIRE_READ | WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/suid"), WIRE_READ, &fd),
             0); /* harmless: nosuid and noexec, see test 65 */
    CHECK(fd_reads(fd, "#!\n"));
}

static void set_flag(const char *path, int flag, bool on)
{
    int flags, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
        flags = on ? flags | flag : flags & ~flag;
        ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
    fd_close(fd);
}

static void ask_flagged_files(struct client_env *env)
{
    const struct broker *b = env->broker;
    CHECK_EQ(open_once(b, at(b, "al/immutable"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/immutable"), WIRE_READ, NULL), 0);
    CHECK_EQ(open_once(b, at(b, "al/append"), WIRE_WRITE, NULL), EPERM);
    CHECK_EQ(open_once(b, at(b, "al/append"), WIRE_APPEND, NULL), 0);
}

static void test_59_privileged_files(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    file_write(at(&b, "al/suid"), "#!\n", 04755, 0);
    file_write(at(&b, "al/sgid"), "#!\n", 02755, 0);
    file_write(at(&b, "al/immutable"), "i\n", 0644, ALICE);
    file_write(at(&b, "al/append"), "a\n", 0644, ALICE);
    as_user(&b, ALICE, ask_privileged_files, NULL);
    set_flag(at(&b, "al/immutable"), FS_IMMUTABLE_FL, true);
    set_flag(at(&b, "al/append"), FS_APPEND_FL, true);
    if (open(at(&b, "al/immutable"), O_WRONLY | O_CLOEXEC) < 0)
        as_user(&b, ALICE, ask_flagged_files, NULL);
    else
        puts("skipped: this file system has no immutable files");
    set_flag(at(&b, "al/immutable"), FS_IMMUTABLE_FL, false);
    set_flag(at(&b, "al/append"), FS_APPEND_FL, false);
    broker_finish(&b);
}

static void ask_unsealed_suid(struct client_env *env)
{
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/suid"), WIRE_READ, NULL), EPERM);
    CHECK_EQ(open_once(env->broker, at(env->broker, "pub/a"), WIRE_READ, NULL), 0);
}

static void test_59_suid_unsealed(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, "allow user:2001 read @/pub/** seal=no\n");
    file_write(at(&b, "pub/suid"), "#!\n", 04755, 0);
    as_user(&b, ALICE, ask_unsealed_suid, NULL);
    broker_finish(&b);
}

int main(void)
{
    RUN_AS_ROOT();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_52_fifo),
        cmocka_unit_test(test_52_fifo_that_the_rule_names),
        cmocka_unit_test(test_53_devices),
        cmocka_unit_test(test_53_device_that_the_rule_names),
        cmocka_unit_test(test_54_sockets_and_directories),
        cmocka_unit_test(test_54_directories_with_list),
        cmocka_unit_test(test_54_list_by_another_rule),
        cmocka_unit_test(test_56_57_truncation_comes_last),
        cmocka_unit_test(test_58_lease),
        cmocka_unit_test(test_59_privileged_files),
        cmocka_unit_test(test_59_suid_unsealed),
    };
    return cmocka_run_group_tests_name("types", tests, NULL, NULL);
}
