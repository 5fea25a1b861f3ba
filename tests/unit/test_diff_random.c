/*
 * policy_diff() of random pairs of policies: every request that is decided otherwise must have been told of,
 * and all that is told must be true.
 *
 *     test_diff_random [PAIRS [SEED]]
 */
#include "diff_pair.h"

#include "../../policy/diff.h"

enum { REQUESTS = 300, TEXT_MAX = 4096, LINES_MAX = 512 };

static unsigned seed = 1, pairs = 500;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

#define PICK(array) ((array)[below(sizeof(array) / sizeof *(array))])

/* ---- random policies ---- */

static const char *const set_lines[] = { "set @people = user:ann user:2 group:14\n",
                                         "set @people = user:ann group:14\n",
                                         "set @people = any group:g12\n" };

static void random_pattern(char *out)
{
    static const char *const literals[] = { "a", "b", "ab", "ann", "2", "home", "proc" };
    static const char *const globs[] = { "*",   "?",  "a*", "[ab]", "[!a]",  "%u",    "%U",
                                         "x%u", "**", "**", "*b",   "{a,b}", "a{b,}", "a*b" };
    static const char *const personal[] = { "/a/%u",       "/a/ann", "/a/bob",    "/a/**", "%h/ann",
                                            "/home/ann/*", "/a/%U",  "/a/[a-c]*", "/a/1" };
    unsigned n = 1 + below(3);
    if (below(4) == 0) {
        sprintf(out, "%s", PICK(personal));
        return;
    }
    bool home = below(12) == 0;
    size_t len = home ? (size_t)sprintf(out, "%%h") : 0;
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(out + len, "/%s", below(2) ? PICK(literals) : PICK(globs));
    if (below(4) == 0)
        sprintf(out + len, "/**");
}

static void random_rule(char *out)
{
    static const char *const terms[] = { "any",
                                         "user:ann",
                                         "user:bob",
                                         "user:3",
                                         "group:g11",
                                         "group:12",
                                         "group:g13",
                                         "group:14",
                                         "@people",
                                         "user:7",
                                         "user:5",
                                         "group:12+cgroup:/x",
                                         "user:1+exe:/a/*",
                                         "group:14+exe:/a/{b,c}",
                                         "any" };
    static const char *const rights[] = { "read",       "write",     "append", "list", "create",
                                          "read,write", "read,list", "all",    "read", "read,write" };
    char one[64], two[64];
    random_pattern(one);
    random_pattern(two);
    bool deny = below(3) == 0, narrow = deny && below(6) == 0;
    unsigned more = below(6);
    sprintf(out, "%s %s%s%s %s %s %s%s\n", deny ? "deny" : "allow", narrow ? "exe:/a/b" : PICK(terms),
            more == 0   ? ","
            : more == 1 ? "+"
                        : "",
            more < 2 ? PICK(terms) : "", PICK(rights), one, below(3) ? "" : two,
            !deny && below(15) == 0 ? " until=2001-01-01T00:00Z" : "");
}

enum { RULES_MAX = 8, RULE_MAX = 256 };
struct draft {
    char rules[RULES_MAX][RULE_MAX];
    unsigned n;
    const char *sets;
};

static struct policy *load_draft(const struct draft *draft, char text[TEXT_MAX])
{
    size_t len = (size_t)sprintf(text, "%s", draft->sets);
    for (unsigned i = 0; i < draft->n; i++)
        len += (size_t)sprintf(text + len, "%s", draft->rules[i]);
    return load(text);
}

/* One word of it anew. */
static void change_word(char *rule)
{
    char words[2][3][RULE_MAX], rest[RULE_MAX], other[RULE_MAX];
    unsigned which = below(3);
    random_rule(other);
    assert_int_equal(sscanf(rule, "%255s %255s %255s %255[^\n]", words[0][0], words[0][1], words[0][2], rest),
                     4);
    assert_int_equal(sscanf(other, "%255s %255s %255s", words[1][0], words[1][1], words[1][2]), 3);
    if (which == 0 && (strstr(rest, "until") || strncmp(words[0][1], "exe:", 4) == 0))
        which = 2; /* what an allow may not say, and a deny not */
    if (which == 1 && strncmp(words[1][1], "exe:", 4) == 0)
        which = 2;
    sprintf(rule, "%s %s %s %s\n", words[which == 0][0], words[which == 1][1], words[which == 2][2], rest);
}

static void mutate(struct draft *draft)
{
    unsigned which = draft->n ? below(draft->n) : 0, how = below(7);
    if (how == 0 && draft->n > 0)
        memcpy(draft->rules[which], draft->rules[--draft->n], RULE_MAX);
    else if (how == 1 && draft->n < RULES_MAX)
        random_rule(draft->rules[draft->n++]);
    else if (how == 2)
        draft->sets = PICK(set_lines);
    else if (draft->n && how < 5)
        random_rule(draft->rules[which]);
    else if (draft->n)
        change_word(draft->rules[which]);
}

/* ---- what is told, as rules: `deny SUBJECT read PATTERN`, each in a policy of its own ---- */

struct told {
    char *line, sign;
    unsigned rights[16];
    size_t n_rights;
    struct policy *policies[2]; /* with the sets of the old and of the new policy */
    const char *witness;
};

static unsigned rights_of(char *item)
{
    for (char *p = item; *p; p++)
        *p = *p == '+' ? ',' : *p;
    return policy_rights_by_text(item);
}

static void parse_rights(struct told *told, char *text)
{
    if (strcmp(text, "all") == 0)
        for (unsigned r = 1; r < RIGHT_ALL; r <<= 1)
            told->rights[told->n_rights++] = r;
    else
        for (char *item = strtok(text, ","); item; item = strtok(NULL, ","))
            told->rights[told->n_rights++] = rights_of(item);
}

static void parse_told(struct told *told, char *line, const struct draft drafts[2])
{
    char subject[256], rights[256], pattern[256], text[TEXT_MAX];
    *told = (struct told){ .line = line, .sign = line[0], .witness = strstr(line, "(in part: ") };
    assert_int_equal(sscanf(line + 1, " %255s %255s %255s", subject, rights, pattern), 3);
    for (int i = 0; i < 2; i++) {
        sprintf(text, "%sdeny %s read %s\n", drafts[i].sets, subject, pattern);
        told->policies[i] = load(text);
        assert_non_null(told->policies[i]);
    }
    parse_rights(told, rights);
    if (told->witness)
        told->witness += strlen("(in part: ");
}

static bool told_matches(const struct told *told, const struct policy_subject *subject, const char *path)
{
    for (int i = 0; i < 2; i++) {
        struct policy_trial trial;
        policy_try(told->policies[i], 1, subject, RIGHT_READ, path, strlen(path), NOW, &trial);
        if (trial.subject && trial.path)
            return true;
    }
    return false;
}

/* `write` stands for append too. */
static bool told_rights(const struct told *told, unsigned asked)
{
    for (size_t i = 0; i < told->n_rights; i++) {
        unsigned rights = told->rights[i];
        unsigned appends = rights & RIGHT_WRITE ? (rights & ~(unsigned)RIGHT_WRITE) | RIGHT_APPEND : rights;
        if ((rights & ~asked) == 0 || (appends & ~asked) == 0)
            return true;
    }
    return false;
}

struct round {
    struct draft drafts[2];
    char texts[2][TEXT_MAX];
    struct policy *policies[2];
    char *output;
    struct told told[LINES_MAX];
    size_t n_told;
};

static void show(const struct round *r)
{
    print_error("--- old\n%s--- new\n%s--- told\n", r->texts[0], r->texts[1]);
    for (size_t i = 0; i < r->n_told; i++)
        print_error("%s\n", r->told[i].line);
}

static bool allowed(const struct policy *policy, const struct policy_subject *subject, unsigned rights,
                    const char *path)
{
    struct policy_decision decision;
    policy_decide_slow(policy, subject, rights, path, strlen(path), NOW, &decision);
    return decision.allowed;
}

/* 0, '+' or '-' */
static char change(const struct round *r, const struct policy_subject *subject, unsigned rights,
                   const char *path)
{
    bool before = allowed(r->policies[0], subject, rights, path);
    bool after = allowed(r->policies[1], subject, rights, path);
    return before == after ? 0 : after ? '+' : '-';
}

static void random_path(char *out)
{
    static const char *const parts[] = { "a",   "b",   "ab",  "ann",  "2",    "home", "proc",
                                         "bob", "eve", "abb", "xann", "xbob", "xa" };
    static const char *const personal[] = { "/a/ann", "/a/bob", "/a/b/ann", "/home/ann/ann", "/a/1", "/a/a" };
    size_t len = 0;
    if (below(4) == 0) {
        sprintf(out, "%s", PICK(personal));
        return;
    }
    for (unsigned i = 0, n = 1 + below(4); i < n; i++)
        len += (size_t)sprintf(out + len, "/%s", PICK(parts));
}

/* ---- all is told ---- */

/* Somebody of the user database, or nobody, with groups beside those that the database gives. */
static struct policy_who *random_who(const struct round *r, struct policy_subject *subject)
{
    static const char *const exes[] = { "/a/b", "/a/c", "/-" }, *const cgroups[] = { "/x/y", "/-" };
    struct term terms[3];
    struct policy_who *who;
    size_t n = 0;
    if (below(3))
        terms[n++] = (struct term){ .kind = TERM_USER, .id = 1 + below(N_USERS) };
    for (unsigned i = below(3); i > 0; i--)
        terms[n++] = (struct term){ .kind = TERM_GROUP, .id = 11 + below(4) };
    assert_non_null(who = who_new(r->policies[0], &(struct conj){ terms, n }));
    *subject = *policy_who_subject(who);
    subject->exe = PICK(exes);
    subject->cgroup = PICK(cgroups);
    subject->unit = subject->label = "-";
    return who;
}

static void check_request(const struct round *r)
{
    char path[256];
    struct policy_subject subject;
    struct policy_who *who = random_who(r, &subject);
    unsigned rights = below(3) ? 1u << below(6) : 1 + below(RIGHT_ALL);
    random_path(path);
    char sign = change(r, &subject, rights, path);
    bool found = !sign;
    for (size_t i = 0; i < r->n_told && !found; i++) {
        const struct told *told = &r->told[i];
        found = (told->sign == '?' || (told->sign == sign && told_rights(told, rights))) &&
                told_matches(told, &subject, path);
    }
    if (!found) {
        show(r);
        print_error("untold: %c uid %d gid %d, rights %x, %s, exe %s, cgroup %s\n", sign, (int)subject.uid,
                    (int)subject.gid, rights, path, subject.exe, subject.cgroup);
        fail();
    }
    policy_who_free(who);
}

/* ---- and all that is told is true ---- */

static bool is_true_of(const struct round *r, const struct told *told, const struct policy_subject *subject)
{
    char path[256];
    for (size_t i = 0; i < told->n_rights; i++) {
        if (told->witness) {
            sprintf(path, "%.*s", (int)strcspn(told->witness, ")"), told->witness);
            if (!told_matches(told, subject, path) || change(r, subject, told->rights[i], path) != told->sign)
                return false;
            continue;
        }
        for (unsigned tries = 0; tries < 60; tries++) {
            random_path(path);
            if (told_matches(told, subject, path) && change(r, subject, told->rights[i], path) != told->sign)
                return false;
        }
    }
    return true;
}

/* What is told in part is true of one at least of those that a set stands for, in one of the homes that stand
 * for all; the rest is true of all. */
static void check_line(const struct round *r, struct diff *diff, const struct told *told)
{
    size_t is_true = 0, is_false = 0;
    for (size_t p = 0; p < 2; p++) {
        const struct conj *conj = &told->policies[p]->ast.rules[0].subjects->conjs[0];
        struct term terms[8];
        for (size_t member = 0; conj->n_terms <= 8 && member < 12; member++) {
            for (size_t t = 0, way = member; t < conj->n_terms; t++) {
                terms[t] = term_member(&conj->terms[t], way % term_members(&conj->terms[t]));
                way /= term_members(&conj->terms[t]);
            }
            struct candidate who;
            assert_int_equal(candidate_init(&who, diff, terms, conj->n_terms), 0);
            for (int home = 0; who.who && home < 2; home++) {
                who.stand_in.home = home ? "/%h" : "/home/%u";
                bool good = is_true_of(r, told, &who.subject);
                is_true += good;
                is_false += !good;
            }
            candidate_deinit(&who);
        }
    }
    bool same_sets = r->drafts[0].sets == r->drafts[1].sets;
    if (is_true == 0 || (!told->witness && same_sets && is_false)) {
        show(r);
        print_error("not true: %s\n", told->line);
        fail();
    }
}

static void check_told(const struct round *r)
{
    struct diff diff = { .sides = { r->policies[0], r->policies[1] } };
    assert_int_equal(diff_index(&diff, NOW), 0);
    for (size_t i = 0; i < r->n_told; i++)
        if (r->told[i].sign != '?')
            check_line(r, &diff, &r->told[i]);
    diff_index_free(&diff);
}

static void run_round(struct round *r)
{
    char *rest = NULL;
    r->output = diff_of(r->policies[0], r->policies[1]);
    r->n_told = 0;
    for (char *line = strtok_r(r->output, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        if (line[0] != '~' && r->n_told < LINES_MAX)
            parse_told(&r->told[r->n_told++], line, r->drafts);
    for (unsigned i = 0; i < REQUESTS; i++)
        check_request(r);
    check_told(r);
    for (size_t i = 0; i < r->n_told; i++) {
        policy_free(r->told[i].policies[0]);
        policy_free(r->told[i].policies[1]);
    }
    free(r->output);
}

static void test_random(void **state)
{
    static struct round r;
    (void)state;
    for (unsigned done = 0; done < pairs; done++) {
        r.drafts[0].n = below(RULES_MAX);
        r.drafts[0].sets = PICK(set_lines);
        for (unsigned i = 0; i < r.drafts[0].n; i++)
            random_rule(r.drafts[0].rules[i]);
        r.drafts[1] = r.drafts[0];
        for (unsigned i = below(3) ? 1 : 3; i > 0; i--)
            mutate(&r.drafts[1]);
        for (int i = 0; i < 2; i++)
            r.policies[i] = load_draft(&r.drafts[i], r.texts[i]);
        if (r.policies[0] && r.policies[1])
            run_round(&r);
        policy_free(r.policies[0]);
        policy_free(r.policies[1]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_random) };
    pairs = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : pairs;
    seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : seed;
    names_set_source(&database);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
