#!/bin/sh
# attacks.sh: every row of the list of threats, and whether the broker stood it.
#
# The number of a row is in the names of its tests: test_40_..., test_73a_..., test_62_63_64_... (three rows). Each
# program that has such tests runs once; its output is kept in $BUILD/log/attacks/. For each row one line, and at
# the end `N passed, N failed, N skipped`. A row fails when one of its tests fails, when a program of its tests does
# not end as it should (killed, a sanitizer complained, ...), and when it has neither a test nor a reason for that.
# $BUILD: the build folder, absolute. $TEST_TIMEOUT: seconds for one program.
set -u

: "${BUILD:?the build folder}"
export BUILD
unset CMOCKA_MESSAGE_OUTPUT CMOCKA_XML_FILE CMOCKA_TEST_FILTER
logs=$BUILD/log/attacks
limit=${TEST_TIMEOUT:-240}
rm -rf "$logs" && mkdir -p "$logs/integration" "$logs/unit"

# Row | what is tried | tests that hold it under another name (PROGRAM:TEST ...) | why it cannot be tested. A program is
# named with its folder: there is a test_identity in both.
rows() {
    cat <<'END'
1|identity in the text of a socket's name||
2|credentials of somebody else in a message||
4|the asker is a zombie||
5|the kernel has no pidfd of the asker, or refuses it||
7|connection inherited by a process of another uid||
8|connection passed to another user||
9|privilege dropped after connect||
10|fork after connect||
11|request sent before accept||
12|credentials that are cut short|unit/test_msg_parse:test_cut_credentials|
14|pid forged by the root of a pid namespace||
15|group dropped to dodge a deny||
16|group that only the user database gives||
17|a thousand groups||
18|uid that is not mapped here||
20|another program mounted over the trusted one||
21|deleted programs, memfd, ld.so, odd names||
22|exec after the request was sent||
23|cgroup that looks like another||
24|garbage||
25|lengths that lie||
26|message too long, or empty||
28|types, counts and bits that are not||
29|descriptors sent to the broker||
30|client without room for the descriptor||
31|ten thousand requests, no reply read||
32|client goes between request and reply||
34|connections without a byte||
35|socket seen from another mount namespace||
36|planted symlinks||
37|symlinks where they are allowed||
38|odd spellings of a path||
39|odd bytes in a path||
40|directory exchanged with a symlink during resolution||
42|long and deep paths||
43|magic links of /proc and /dev||
45|hard link to somebody else's file||
46|mount beneath a root||
47|root replaced, or mounted over||
48|client in a chroot||
49|file system that ignores case||no file system here ignores case (ext4 with casefold, vfat)
51|what is refused shows nothing of itself||
52|FIFO||
53|devices||
54|sockets and directories||
56|truncation with a read||
57|truncation before the checks||
58|lease||
59|set-uid, immutable and append-only files||
60|way up from a directory's descriptor||
62|read-only descriptor opened again for writing||
63|hard link out of a descriptor||
64|metadata through a read-only descriptor||
65|set-uid program run by its descriptor||
66|executable mapping of a descriptor||
67|append-only descriptor||
68|lock on a shared file||
70|flags of a delivered descriptor||
72|mode and owner of a created file||
73a|creation through a dangling symlink||
73b|O_EXCL, by two at once||
73c|creation without the right||
73d|open flags that the protocol does not have||
73e|planted file in a sticky directory||
73f|worker killed between creation and ownership||
73g|creation where the file system refuses||
73h|quota evaded by creating through the broker||
74|descriptors in flight||
75|too many references, no buffers||
76|flood of connections by one user||
77|no descriptor left at accept||
78|connections that say nothing||
79|flood of requests||
80|memory||
81|open that hangs||
82|close that hangs||
83|hung file system that dies||
84|client of a stuck opener||
85|disk full for the audit||
86|patterns that are slow||
87|policy that does not parse||
88|policy that others can write||
90|reload under load||
91|old connections after a reload||
93|deny and allow that overlap||
94|reload by somebody else||
95|forged audit records||
97|flood of refusals in the audit||
98|truth of the audit||
99|audit that nobody reads||
101|what each process may||
102|worker opens files outside the roots||
103|forged file handle||
104|system calls of a worker||
105|signals and ptrace at others of the same uid|unit/test_confine:test_103_104_system_calls_kill integration/test_lockdown:test_101_attacked_from_outside|
106|other tables of system calls||
107|a step of the confinement fails||
108|processes that crash||
110|descriptors of each process||
143|something else at the socket's path||
144|two daemons||
146|readiness to nobody||
147|SIGTERM under load||
148|crash and restart||
149|somebody else serves||
150|another version of the protocol||
END
}

# Numbers in names of tests that are no rows.
no_rows='integration/test_control:test_17_ unit/test_msg:test_253_'

# PROGRAM ROW TEST for each row in each name of a test; ROW is `?` where there is no such row in the table. Those of
# sections K and L (111 to 142) are none of ours.
find_by_name() {
    for source in tests/integration/test_*.c tests/unit/test_*.c; do
        program=${source#tests/}
        sed -n 's/^static void \(test_[0-9][0-9A-Za-z_]*\)(.*/\1/p' "$source" | sed "s,^,${program%.c} ,"
    done | awk -v no_rows="$no_rows" '
        BEGIN { n = split(no_rows, no, " ") }
        FILENAME != "-" { split($0, field, "|"); known[field[1]] = 1; next }
        {
            for (i = 1; i <= n; i++)
                if (index($1 ":" $2, no[i]) == 1) next
            rest = substr($2, 6)
            while (match(rest, /^[0-9]+[a-z]?_/)) {
                row = substr(rest, 1, RLENGTH - 1)
                rest = substr(rest, RLENGTH + 1)
                if (known[row]) print $1, row, $2
                else if (row < 111 || row > 142) print $1, "?", $2
            }
        }' "$logs/rows" -
}

find_by_table() {
    awk -F'|' '{
        n = split($3, test, " ")
        for (i = 1; i <= n; i++) { sub(/:/, " " $1 " ", test[i]); print test[i] }
    }' "$logs/rows"
}

# What became of each test of a program, from its output: PROGRAM TEST ok|FAILED|skip REASON. A test that failed in a
# child of the program has two results, and the failure counts. What a test skips it says by `skipped: REASON`; an `ok`
# with a reason is one that left a part out. The last line, with `-` for a test, is of the program as a whole.
judge() {
    awk -v program="$1" -v status="$2" -v limit="$limit" '
        function named(what) { return match($0, "\\[ *" what " *\\] test_[0-9A-Za-z_]+$") }
        function name_here() { return substr($0, index($0, "] test_") + 2) }
        named("RUN") { now = name_here(); why[now] = said }
        match($0, /skipped: .*/) { said = substr($0, RSTART + 9); if (now != "") why[now] = said }
        named("OK") && !(name_here() in got) { got[name_here()] = "ok"; now = said = "" }
        named("SKIPPED") && !(name_here() in got) { got[name_here()] = "skip"; now = said = "" }
        named("FAILED") { got[name_here()] = "FAILED"; failed = 1; now = said = "" }
        /\[==========\] .*test\(s\) run/ { complete = 1 }
        function whole(result, reason) { print program, "-", result, reason; exit }
        END {
            for (name in got) print program, name, got[name], why[name]
            if (complete && (status == 0 || (failed && status < 124))) whole("ok", "")
            if (!complete && (status == 0 || status == 77) && said != "") whole("skip", said)
            if (status == 124 || status == 137) whole("FAILED", "no end after " limit " seconds")
            if (status > 128) whole("FAILED", "killed by signal " status - 128)
            whole("FAILED", "exit status " status (complete ? " though all passed" : " before the end"))
        }' "$logs/$1.log"
}

run_program() {
    timeout -k 5 "$limit" "$BUILD/tests/${1#unit/}" >"$logs/$1.log" 2>&1 </dev/null
    judge "$1" $?
}

# One line for each row, from its tests and what became of them.
report() {
    awk '
        # A program that did not end well is not believed, whatever its tests said before.
        function result_of(p, t) {
            return result[p, "-"] != "ok" ? result[p, "-"] : (p, t) in result ? result[p, t] : "FAILED"
        }
        function reason_of(p, t) {
            return result[p, "-"] != "ok" ? reason[p, "-"] : (p, t) in result ? reason[p, t] : "it has no result"
        }
        function short(p) { sub(/^integration\//, "", p); return p }
        function add(text, more) { return text == "" ? more : text "; " more }
        # Fills names, oks, fails, why (of the failures) and skips (what was left out) for the tests of a row.
        function look_at(id,    i, p, t, r, last) {
            names = why = skips = last = ""; oks = fails = 0
            for (i = 1; i <= n[id]; i++) {
                p = program[id, i]; t = test[id, i]; r = result_of(p, t)
                names = p == last ? names " " t : add(names, short(p) ": " t)
                last = p; oks += r == "ok"; fails += r == "FAILED"
                if (r == "FAILED") why = add(why, t (reason_of(p, t) == "" ? "" : ": " reason_of(p, t)))
                else if (reason_of(p, t) != "") skips = add(skips, t ": " reason_of(p, t))
                else if (r == "skip") skips = add(skips, t ": no reason given")
            }
        }
        FILENAME ~ /results$/ {
            key = $1 SUBSEP $2; result[key] = $3
            $1 = $2 = $3 = ""; sub(/^ +/, ""); reason[key] = $0
            next
        }
        FILENAME ~ /tests$/ && $2 == "?" { printf "FAILED %s: %s: no such row\n", $1, $3; failed++; next }
        FILENAME ~ /tests$/ { program[$2, ++n[$2]] = $1; test[$2, n[$2]] = $3; next }
        {
            split($0, field, "|"); id = field[1]; look_at(id)
            head = sprintf("row %-4s %s", id, field[2])
            if (fails) { failed++; print "FAILED " head ": " why " (" names ")" }
            else if (oks) { passed++; print "ok     " head " (" names ")" (skips == "" ? "" : "; skipped: " skips) }
            else if (n[id]) { skipped++; print "skip   " head ": " skips }
            else if (field[4] != "") { skipped++; print "skip   " head ": not tested: " field[4] }
            else { failed++; print "FAILED " head ": no test, and no reason to have none" }
        }
        END {
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
            exit failed ? 1 : passed ? 0 : 77
        }' "$logs/results" "$logs/tests" "$logs/rows"
}

rows >"$logs/rows"
{ find_by_name && find_by_table; } >"$logs/tests" || exit 1
cut -d' ' -f1 "$logs/tests" | sort -u | while read -r program; do
    run_program "$program"
done >"$logs/results"
report
