/*
 * fob_open_many() of thousands of paths against the real broker: what is allowed, refused, missing, created
 * and not even asked, mixed; each gets its own answer, and each is in the audit once.
 */
#include "harness.h"

#include <errno.h>
#include <sys/resource.h>

#include "../../client/fob.h"

static const char policy[] = "allow user:2001 read @/pub/**\n"
                             "allow user:2001 write,create @/al/**\n";

enum { MANY = 2000 };

struct kind {
    const char *path; /* at the end #: its number */
    int oflags, error;
    uint32_t rule;
};

static const struct kind kinds[] = {
    { "pub/a", O_RDONLY, 0, 1 },
    { "secret/f", O_RDONLY, EACCES, 0 },
    { "pub/none#", O_RDONLY, ENOENT, 1 },
    { "al/new#", O_WRONLY | O_CREAT | O_EXCL, 0, 2 },
    { "pub/b", O_RDWR, EACCES, 0 },
    { "pub/../pub/b", O_RDONLY, EINVAL, 0 },
    { "pub/b", O_RDONLY | O_TMPFILE, EINVAL, 0 }, /* libfob's own answer: it is not sent */
};
enum { KINDS = sizeof kinds / sizeof *kinds, UNSENT = 6 };

static void make_requests(const struct broker *b, struct fob_request *requests)
{
    for (size_t i = 0; i < MANY; i++) {
        const struct kind *kind = &kinds[i % KINDS];
        size_t len = strcspn(kind->path, "#");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)len, kind->path);
        if (kind->path[len])
            snprintf(name + len, sizeof name - len, "%zu", i);
        requests[i] =
            (struct fob_request){ .path = strdup(at(b, name)), .oflags = kind->oflags, .mode = 0666 };
    }
}

static void room_for_all(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void check_answer(const struct fob_request *request, const struct kind *kind, int error)
{
    struct stat st;
    CHECK_EQ(request->error, error);
    CHECK_EQ(request->fd >= 0, error == 0);
    CHECK_EQ(request->rule, kind->rule);
    if (request->fd < 0)
        return;
    CHECK_EQ(fcntl(request->fd, F_GETFD), FD_CLOEXEC);
    if (kind->oflags == O_RDONLY)
        CHECK(fd_reads(request->fd, "pub a\n"));
    else
        CHECK(fstat(request->fd, &st) == 0 && (st.st_mode & 07777) == 0640);
    close(request->fd);
}

static ssize_t number_of(size_t kind)
{
    return (MANY - (ssize_t)kind + KINDS - 1) / KINDS;
}

static void ask_for_many(struct client_env *env)
{
    static struct fob_request requests[MANY];
    struct fob *fob = fob_connect(env->broker->socket);
    CHECK(fob != NULL);
    umask(026);
    room_for_all();
    make_requests(env->broker, requests);
    for (int round = 0; round < 2; round++) { /* in the second all that was created is there */
        CHECK_EQ(fob_open_many(fob, requests, MANY), number_of(0) + (round ? 0 : number_of(3)));
        for (size_t i = 0; i < MANY; i++)
            check_answer(&requests[i], &kinds[i % KINDS],
                         round && i % KINDS == 3 ? EEXIST : kinds[i % KINDS].error);
    }
    fob_close(fob);
}

static void test_each_its_own_answer(void **state)
{
    (void)state;
    struct broker b;
    broker_begin(&b, policy);
    as_user(&b, ALICE, ask_for_many, NULL);
    count_requests(2 * (MANY - (unsigned)number_of(UNSENT)));
    broker_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_its_own_answer),
    };
    RUN_AS_ROOT();
    return cmocka_run_group_tests_name("many files", tests, NULL, NULL);
}
