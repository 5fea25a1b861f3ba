/*
 * Names that are opened without a look before (broker/known.h): whatever they become, it is answered as under
 * a name that was never asked for; and what others than root may put there is looked at each time.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../../common/sock.h"
#include "../../common/util.h"

enum { OFTEN = 6 };

static const char policy[] = "allow user:2001 read,write,append,create,list,stat @/pub/**\n"
                             "allow user:2001 read @/al/**\n"
                             "allow user:2001 read @/open/**\n"
                             "allow user:2001 read,write,append,create @/any/** type=file,dir,fifo,socket\n"
                             "allow user:2002 list @/any/**\n" /* the worker may, for others */
                             "deny user:2001 all @/pub/secret/**\n";

/* What a client is to ask for, and what it gets. */
static struct question {
    char path[128];
    uint32_t flags;
    int times, error;
    mode_t type;
} * question;

static int group_setup(void **state)
{
    (void)state;
    question = mmap(NULL, sizeof *question, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return question == MAP_FAILED;
}

static void ask(struct client_env *env)
{
    int sock = raw_connect(env->broker);
    for (int i = 0; i < question->times; i++) {
        int fd = -1;
        struct stat st = { .st_mode = 0 };
        question->error =
            raw_open(sock, question->path, question->flags, question->flags & WIRE_CREATE ? 0600 : 0, &fd);
        if (fd >= 0)
            fstat(fd, &st);
        question->type = st.st_mode & S_IFMT;
        fd_close(fd);
    }
}

static int answer(const struct broker *b, const char *name, uint32_t flags, int times)
{
    *question = (struct question){ .flags = flags, .times = times };
    snprintf(question->path, sizeof question->path, "%s", at(b, name));
    as_user(b, ALICE, ask, NULL);
    return question->error;
}

/* ---- whatever a name becomes ---- */

static void become_nothing(const struct broker *b, const char *path)
{
    (void)b;
    (void)path;
}

static void become_other_file(const struct broker *b, const char *path)
{
    (void)b;
    file_write(path, "another\n", 0644, 0);
}

static void become_fifo(const struct broker *b, const char *path)
{
    (void)b;
    assert_int_equal(mkfifo(path, 0666), 0);
}

static void become_directory(const struct broker *b, const char *path)
{
    (void)b;
    assert_int_equal(mkdir(path, 0755), 0);
}

static void become_socket(const struct broker *b, const char *path)
{
    (void)b;
    assert_int_equal(mknod(path, S_IFSOCK | 0666, 0), 0);
}

static void become_set_uid(const struct broker *b, const char *path)
{
    (void)b;
    file_write(path, "program\n", 0644, 0);
    assert_int_equal(chmod(path, 04755), 0);
}

static void become_link(const struct broker *b, const char *path)
{
    assert_int_equal(symlink(at(b, "pub/a"), path), 0);
}

static void become_link_to_secret(const struct broker *b, const char *path)
{
    assert_int_equal(symlink(at(b, "pub/secret/s"), path), 0);
}

typedef void become_fn(const struct broker *b, const char *path);
static become_fn *const becomes[] = { become_nothing, become_other_file, become_fifo, become_directory,
                                      become_socket,  become_set_uid,    become_link, become_link_to_secret };

static const uint32_t asked[] = {
    WIRE_READ,
    WIRE_WRITE,
    WIRE_READ | WIRE_WRITE,
    WIRE_READ | WIRE_NONBLOCK,
    WIRE_READ | WIRE_NOFOLLOW,
    WIRE_WRITE | WIRE_TRUNCATE,
    WIRE_WRITE | WIRE_CREATE,
    WIRE_WRITE | WIRE_CREATE | WIRE_EXCLUSIVE,
    WIRE_READ | WIRE_DIRECTORY,
    WIRE_DIRECTORY,
    WIRE_PATH,
};

/* Every time under names of its own. */
static void compare(const struct broker *b, const char *dir, size_t kind, size_t flags)
{
    char known[32], fresh[32];
    snprintf(known, sizeof known, "%s/known-%zu-%zu", dir, kind, flags);
    snprintf(fresh, sizeof fresh, "%s/fresh-%zu-%zu", dir, kind, flags);
    file_write(at(b, known), "known\n", 0644, 0);
    assert_int_equal(answer(b, known, WIRE_READ, OFTEN), 0);
    unlink(at(b, known));
    becomes[kind](b, at(b, known));
    becomes[kind](b, at(b, fresh));
    int error = answer(b, known, asked[flags], 1);
    mode_t type = question->type;
    if (answer(b, fresh, asked[flags], 1) != error || question->type != type)
        fail_msg("%s: errno %d, type %o; %s: errno %d, type %o", known, error, type, fresh, question->error,
                 question->type);
}

static void test_whatever_a_name_becomes(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "pub/secret"), 0755), 0);
    assert_int_equal(mkdir(at(&b, "open"), 0755), 0);
    assert_int_equal(mkdir(at(&b, "any"), 0755), 0);
    file_write(at(&b, "pub/secret/s"), "secret\n", 0644, 0);
    broker_start(&b, policy, "workers 1");
    b.uncounted = true;
    for (size_t kind = 0; kind < ARRAY_SIZE(becomes); kind++)
        for (size_t flags = 0; flags < ARRAY_SIZE(asked); flags++) {
            compare(&b, "pub", kind, flags);
            compare(&b, "any", kind, flags);
        }
    broker_finish(&b);
}

/* ---- 52: a FIFO in the place of a file that was asked for often ---- */

/* A writer that waits for a reader. */
static pid_t wait_for_reader(const char *path)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        _exit(fd < 0);
    }
    usleep(50000);
    return pid;
}

/* Did it find one? */
static bool found_reader(pid_t writer)
{
    usleep(50000);
    bool found = waitpid(writer, NULL, WNOHANG) == writer;
    if (!found) {
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
    }
    return found;
}

static bool is_noticed(const struct broker *b, const char *name)
{
    pid_t writer = wait_for_reader(at(b, name));
    assert_int_equal(answer(b, name, WIRE_READ, 1), EPERM);
    return found_reader(writer);
}

static void make_fifo_of(const struct broker *b, const char *name)
{
    file_write(at(b, name), "file\n", 0644, 0);
    assert_int_equal(answer(b, name, WIRE_READ, OFTEN), 0);
    unlink(at(b, name));
    assert_int_equal(mkfifo(at(b, name), 0666), 0);
}

/* Directories in which somebody else may do it: his own, one that all may write, and one that is root's in
 * one that is his. */
static void test_52_where_others_may(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "open"), 0755), 0);
    broker_start(&b, policy, "workers 1");
    b.uncounted = true;
    static const struct {
        const char *dir, *name;
        uid_t owner;
        mode_t mode;
    } dirs[] = {
        { "open/alices", "open/alices/f", ALICE, 0755 },
        { "open/all", "open/all/f", 0, 0777 },
        { "open/sticky", "open/sticky/f", 0, 01777 },
        { "open/group", "open/group/f", 0, 0775 },
        { "open/alices/roots", "open/alices/roots/f", 0, 0755 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
        assert_int_equal(mkdir(at(&b, dirs[i].dir), 0755), 0);
        assert_int_equal(chown(at(&b, dirs[i].dir), dirs[i].owner, 0), 0);
        assert_int_equal(chmod(at(&b, dirs[i].dir), dirs[i].mode), 0);
        make_fifo_of(&b, dirs[i].name);
        if (is_noticed(&b, dirs[i].name))
            fail_msg("%s: the other side of the FIFO saw it opened", dirs[i].name);
    }
    broker_finish(&b);
}

/* Where only root can have done it, it may be seen once. */
static void test_52_where_root_may(void **state)
{
    (void)state;
    struct broker b;
    broker_prepare(&b);
    assert_int_equal(mkdir(at(&b, "open"), 0755), 0);
    broker_start(&b, policy, "workers 1");
    b.uncounted = true;
    make_fifo_of(&b, "pub/f");
    bool first = is_noticed(&b, "pub/f");
    printf("the first time the other side saw %s\n", first ? "one open" : "nothing");
    for (int i = 0; i < OFTEN; i++)
        assert_false(is_noticed(&b, "pub/f"));
    assert_true(first); /* else nothing is opened without a look, and these tests show nothing */
    broker_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whatever_a_name_becomes),
        cmocka_unit_test(test_52_where_others_may),
        cmocka_unit_test(test_52_where_root_may),
    };
    return cmocka_run_group_tests_name("known", tests, group_setup, NULL);
}
