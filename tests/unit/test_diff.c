/*
 * policy_diff(): cases to read.
 */
#include "../../policy/names.h"
#include "diff_pair.h"

static void expect(const char *old_text, const char *new_text, const char *want)
{
    struct policy *old = load(old_text), *new = load(new_text);
    assert_true(old && new);
    char *got = diff_of(old, new);
    assert_string_equal(got, want);
    free(got);
    policy_free(old);
    policy_free(new);
}

static void test_rules(void **state)
{
    (void)state;
    expect("", "", "");
    expect("allow any read /a\n", "# said otherwise\nallow any  read  \"/a\"\n", "");
    expect("allow user:bob,group:g13 read,list /a /b\n", "allow group:13,user:2 list,read /b /a\n", "");
    expect("", "allow user:bob read,list /srv/**\n", "+ user:bob read,list /srv/**\n");
    expect("allow user:bob all /srv/**\n", "allow user:bob read,list /srv/**\n",
           "- user:bob write,create,stat /srv/**\n");
    expect("allow user:bob write /a\n", "allow user:bob append /a\n", "- user:bob write /a\n");
    expect("allow any read /a/**\n", "allow any read /a/*/c\n", "- any read /a/**  (in part: /a/a)\n");
    expect("allow any read /a/*\n", "allow any read /a/b /a/*\n", "");
    expect("allow any read /a until=2001-01-01T00:00Z\n", "", "");
    expect("allow any read /{a,b}/c\n", "allow any read /a/c\n", "- any read /{a,b}/c  (in part: /b/c)\n");
    expect("allow any read /a\nallow any write /a\n", "allow any read,write /a\n", "+ any read+write /a\n");
}

static void test_denies(void **state)
{
    (void)state;
    expect("allow any read /a/**\ndeny any all /a/x\n", "allow any read /a/**\n", "+ any read /a/x\n");
    expect("deny any all /a/x\n", "", "");
    expect("allow any read /a/**\n", "allow any read /a/**\ndeny user:bob all /**\n",
           "- user:bob read /**  (in part: /a/a)\n");
    expect("allow any read /a/**\ndeny any read /a/x\ndeny user:bob all /a/**\n",
           "allow any read /a/**\ndeny any read /a/x\n", "+ user:bob read /a/**  (in part: /a/a)\n");
    expect("allow user:bob read /a/**\n", "allow user:bob read /a/**\ndeny any read /a/x/**\n",
           "- user:bob read /a/x/**\n");
    expect("allow any read /a\n", "allow any read /a\ndeny exe:/bin/x all /a\n", "- exe:/bin/x read /a\n");
}

static void test_subjects(void **state)
{
    (void)state;
    expect("set @ops = user:ann user:bob group:14\nallow @ops read /a\n",
           "set @ops = user:ann group:14\nallow @ops read /a\n", "- user:bob read /a\n");
    expect("set @ops = user:ann user:bob group:14\n",
           "set @ops = user:ann user:bob group:14\nallow @ops read /a\n", "+ @ops read /a\n");
    expect("set @ops = user:ann user:bob group:14\nallow user:ann read /a\n",
           "set @ops = user:ann user:bob group:14\nallow user:ann read /a\nallow @ops read /a\n",
           "+ group:14 read /a\n+ user:bob read /a\n");
    /* bob is in g13 */
    expect("allow group:g13 read /a\n", "allow group:g13 read /a\nallow user:bob read /a\n", "");
    expect("allow user:bob read /a\n", "allow user:bob read /a\ndeny group:g13 all /**\n",
           "- user:bob read /**  (in part: /a)\n");
    expect("allow user:eve read /a\n", "allow user:eve read /a\ndeny group:g13 all /a\n",
           "- user:eve+group:g13 read /a\n");
    expect("allow group:14+exe:/bin/* read /a\n", "allow group:14+exe:/bin/x read /a\n",
           "- group:14+exe:/bin/* read /a\n");
}

static void test_homes(void **state)
{
    (void)state;
    expect("", "allow any read /srv/%u/**\n", "+ any read /srv/%u/**\n");
    expect("allow any read /srv/%u/**\n", "allow any read /srv/%u/**\ndeny any all /srv/ann/x\n",
           "- user:ann read /srv/ann/x\n");
    expect("allow any read %h/**\n", "allow any read %h/**\ndeny any all /home/*/x\n",
           "- any read /home/*/x  (in part: /home/%u/x)\n");
    expect("allow any read %h/**\n", "allow any read %h/**\ndeny any all /a/**\n",
           "- user:bob read /a/**  (in part: /a/b/a)\n");
    expect("allow any read %h/** /home/**\n", "allow any read /home/**\n",
           "- any read %h/**  (in part: /%h/a)\n- user:bob read %h/**\n");
    expect("allow any read /run/%U\n", "", "- any read /run/%U\n");
}

static void test_mounts(void **state)
{
    (void)state;
    expect("", "allow any read /**\n", "+ any read /**  (in part: /a)\n");
    expect("allow any read /**\n", "allow any read /** /b/x\n", "+ any read /b/x\n");
}

static void test_options(void **state)
{
    (void)state;
    expect("allow any read /a\nallow any read /b as=caller\n",
           "allow any read /b\nallow any read /a seal=no\n",
           "~ p:1: options changed: as=caller -> defaults\n~ p:2: options changed: defaults -> seal=no\n");
    expect("allow any create /a mode=0640 type=fifo log=none links=any as=user:bob\n",
           "allow any create /a until=2020-01-01T00:00Z\n",
           "~ p:1: options changed: as=user:bob type=fifo mode=0640 links=any log=none -> "
           "until=2020-01-01T00:00:00Z\n");
}

/* What cannot be told is said, never left out. */
static void test_too_many(void **state)
{
    static const char tail[] = "(not compared to the end: too many overlapping patterns)";
    char old[8192], want[256];
    (void)state;
    sprintf(want, "- any read /**  (in part: /a)  %s\n", tail);
    expect("allow any read /** /*a????????????????????\n", "allow any read /*a????????????????????\n", want);
    sprintf(want, "? any read /*  %s\n? any read /**  %s\n", tail, tail);
    expect("allow any read /**\nallow any read /*/**\nallow any read,list /*a????????????????????\n",
           "allow any read /*/** /*\nallow any read,list /*a????????????????????\n", want);
    size_t len = (size_t)sprintf(old, "set @many =");
    for (unsigned i = 0; i < 101; i++)
        len += (size_t)sprintf(old + len, " group:%u", 1000 + i);
    sprintf(old + len, "\nallow @many+@many read /a\n");
    expect(old, "", "? @many read /a  (not compared to the end: too many subjects)\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),    cmocka_unit_test(test_denies), cmocka_unit_test(test_subjects),
        cmocka_unit_test(test_homes),    cmocka_unit_test(test_mounts), cmocka_unit_test(test_options),
        cmocka_unit_test(test_too_many),
    };
    names_set_source(&database);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
