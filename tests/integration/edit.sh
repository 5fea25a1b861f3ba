#!/bin/sh
# edit.sh: fobctl edit with editors that are scripts: what is in the file afterwards, what is kept, what is left over.
set -u
: "${BUILD:?the build folder}"
passed=0 failed=0
umask 022
tmp=$(mktemp -d /tmp/fob-edit.XXXXXX)
chmod 0755 "$tmp"
fobd=
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
unset VISUAL EDITOR FOB_CONTROL
export TMPDIR="$tmp/private" # where the copies are
dir=$tmp/policy.d
file=$dir/10-a.policy
control=$tmp/nobody-there
one='allow user:3000000001 read /srv/one'
two='allow user:3000000002 read /srv/two'
other='set @other = /srv/other'
in_place="fobctl: $file: in place; the next start of fobd loads it"

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf '%s\n' "$*"
}
is() { # NAME WHAT GOT WANTED
    if [ "$3" = "$4" ]; then ok; else bad "$1: $2:
$3
  not:
$4"; fi
}

# ---------------------------------------------------------------- editors

mkdir "$tmp/ed"
editor() { # NAME, its script on standard input; $1 there is the copy
    cat >"$tmp/ed/$1"
}
editor nothing </dev/null
editor append <<END
echo '$two' >>"\$1"
END
editor mistake <<END
echo 'allow nonsense' >>"\$1"
END
editor refer <<END
echo 'allow user:3000000002 read @other' >>"\$1"
END
editor assert <<END
echo 'assert deny user:3000000001 read /srv/one' >>"\$1"
END
editor empty <<END
: >"\$1"
END
editor fail <<END
exit 3
END
editor append-and-fail <<END
echo '$two' >>"\$1"
exit 3
END
editor append-and-die <<END
echo '$two' >>"\$1"
kill -KILL \$\$
END
editor remove <<END
rm "\$1"
END
editor move-away <<END
echo '$two' >>"\$1"
mv "\$1" "\$1.mine"
END
editor by-rename <<END
cp "\$1" "\$1~"
cp "\$1" "\$1.new"
echo '$two' >>"\$1.new"
mkdir "\${1%/*}/lock"
echo 'not of the policy' >"\${1%/*}/99-scratch.policy"
chmod 0666 "\$1.new"
mv "\$1.new" "\$1"
END
editor make-symlink <<END
mv "\$1" "\$1.mine"
ln -s "\$1.mine" "\$1"
END
editor interfere <<END
echo '$two' >>"\$1"
echo '# by somebody else' >>'$file'
END
editor interfere-by-rename <<END
echo '$two' >>"\$1"
cp -p '$file' '$file.theirs'
mv '$file.theirs' '$file'
END
editor interfere-with-mode <<END
echo '$two' >>"\$1"
chmod 0600 '$file'
END
editor vanish <<END
echo '$two' >>"\$1"
rm '$file'
END
editor appear <<END
echo '$two' >>"\$1"
echo '$one' >'$dir/20-new.policy'
END
editor interrupted <<END
kill -INT \$PPID
kill -QUIT \$PPID
echo '$two' >>"\$1"
END
editor stubborn <<END
if grep -q nonsense "\$1"; then
    sed -i 's/allow nonsense/$(printf %s "$two" | sed 's,/,\\/,g')/' "\$1"
else
    echo 'allow nonsense' >>"\$1"
fi
END
# ---------------------------------------------------------------- one edit

# fresh: a policy as it is before each
fresh() {
    rm -rf "$dir" "$TMPDIR"
    mkdir "$dir" "$TMPDIR"
    printf '%s\n' "$one" >"$file"
    printf '%s\n' "$other" >"$dir/05-other.policy"
    chmod 0640 "$file"
}
# edit STATUS EDITOR FILE: its outputs are $tmp/out and $tmp/err
edit() {
    EDITOR="exec sh $tmp/ed/$2" "$BUILD/fobctl" -s "$control" edit "$3" </dev/null >"$tmp/out" 2>"$tmp/err"
    is "$2" "exit status" $? "$1"
}
says() { # NAME TEXT: a part of what standard error was
    if grep -qF -- "$2" "$tmp/err"; then ok; else bad "$1: standard error has no \`$2\`:
$(cat "$tmp/err")"; fi
}
holds() { # NAME TEXT [MODE]: the file, and nothing but it and the other one in the directory
    is "$1" "the file" "$(cat "$file" 2>&1)" "$2"
    is "$1" "its mode" "$(stat -c %a "$file" 2>&1)" "${3:-640}"
    is "$1" "the directory" "$(ls -A "$dir")" "05-other.policy
10-a.policy"
    is "$1" "the other file" "$(cat "$dir/05-other.policy")" "$other"
}
nothing_kept() { # NAME
    is "$1" "what is kept" "$(ls -A "$TMPDIR")" ""
}
kept() { # NAME TEXT [BASE]: the copy, where the message says that it is
    copy=$(sed -n 's/.*: not changed; your text is kept in //p' "$tmp/err" | tr -d '\r')
    is "$1" "the copy's name" "${copy##*/}" "${3:-10-a.policy}"
    is "$1" "the copy" "$(cat "$copy" 2>&1)" "$2"
    is "$1" "mode of its directory" "$(stat -c %a "$TMPDIR"/fobctl.*)" 700
    is "$1" "what is kept" "$(ls -A "$TMPDIR"/fobctl.*)" "${3:-10-a.policy}"
}

# ---------------------------------------------------------------- put in place

fresh
edit 3 append "$file"
says append "$in_place"
says append "$control: no broker runs there"
holds append "$one
$two"
nothing_kept append
if grep -qF /srv/two "$tmp/out"; then ok; else bad "append: the change is not shown: $(cat "$tmp/out")"; fi

fresh
edit 3 refer "$file" # to what another file of the directory has
holds refer "$one
allow user:3000000002 read @other"
nothing_kept refer

fresh
edit 3 empty "$file"
holds empty ""

fresh
edit 3 by-rename "$file" # as most editors do it, with a backup; what else it leaves is no part of the policy
holds by-rename "$one
$two"
nothing_kept by-rename

fresh
edit 3 interrupted "$file" # the editor's own business
holds interrupted "$one
$two"

fresh
edit 3 append "$dir/20-new.policy"
is "new file" "the file" "$(cat "$dir/20-new.policy")" "$two"
is "new file" "its mode and owner" "$(stat -c '%a %u %g' "$dir/20-new.policy")" "644 $(id -u) $(id -g)"
is "new file" "the directory" "$(ls -A "$dir")" "05-other.policy
10-a.policy
20-new.policy"
nothing_kept "new file"

fresh
cd "$dir" || exit 1
umask 077
edit 3 append ./20-new.policy
umask 022
cd "$tmp" || exit 1
is "relative path" "the file" "$(cat "$dir/20-new.policy")" "$two"
is "relative path" "its mode" "$(stat -c %a "$dir/20-new.policy")" 644

fresh
long=$dir/$(printf '%0248d' 0).policy # of 255 bytes: the temporary file's name must not be longer
edit 3 append "$long"
is "long name" "the file" "$(cat "$long")" "$two"
is "long name" "files" "$(find "$dir" -type f | wc -l)" 3

fresh
strange=$(printf '%s/a\033b c.policy' "$dir")
edit 3 append "$strange"
is "strange name" "the file" "$(cat "$strange")" "$two"
says "strange name" "$dir/a\\x1bb c.policy: in place"

fresh
printf '# old\n' >"$dir/broken.policy"
printf 'allow nonsense\n' >"$file" # what is in force cannot be compared
edit 3 empty "$file"
says "mended" "$dir: has errors as it is"
is "mended" "the file" "$(cat "$file")" ""

for variable in VISUAL EDITOR; do
    fresh
    EDITOR=false
    export EDITOR
    eval "$variable=\"sh '$tmp/ed/append'\"; export $variable"
    "$BUILD/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
    is "$variable" "exit status" $? 3
    holds "$variable" "$one
$two"
    unset VISUAL EDITOR
done

# ---------------------------------------------------------------- left as it was

fresh
touch -d '2001-02-03 04:05:06.789' "$file"
before=$(stat -c '%i %y %z' "$file")
edit 0 nothing "$file"
is nothing "standard error" "$(cat "$tmp/err")" "fobctl: $file: unchanged"
is nothing "the file" "$(stat -c '%i %y %z' "$file")" "$before"
nothing_kept nothing

fresh
edit 0 nothing "$dir/20-new.policy"
holds "nothing new" "$one"

fresh
edit 4 mistake "$file"
says mistake "$file:2:" # the file, not the copy
if grep -q 'fobctl[.][A-Za-z0-9]*/policy[.]' "$tmp/err"; then bad "mistake: names the copy: $(cat "$tmp/err")"; else ok; fi
holds mistake "$one"
kept mistake "$one
allow nonsense"

fresh
edit 4 assert "$file"
holds assert "$one"
kept assert "$one
assert deny user:3000000001 read /srv/one"

fresh
edit 4 mistake "$dir/20-new.policy"
holds "new mistake" "$one"
kept "new mistake" "allow nonsense" 20-new.policy

fresh
ln -s 10-a.policy "$dir/60-link.policy" # the broker would refuse it too
edit 4 append "$file"
says "link beside it" "$dir/60-link.policy: is a symlink"
rm "$dir/60-link.policy"
holds "link beside it" "$one"
kept "link beside it" "$one
$two"

fresh
mkfifo "$dir/60-fifo.policy"
edit 4 append "$file"
says "FIFO beside it" "$dir/60-fifo.policy: is not a regular file"

fresh
chmod 0664 "$dir/05-other.policy"
edit 4 append "$file"
says "writable by others" "$dir/05-other.policy: others can write it"
holds "writable by others" "$one"
chmod 0644 "$dir/05-other.policy"
chmod 0775 "$dir"
edit 4 append "$file"
says "writable by others" "$dir: others can write it"

# ---------------------------------------------------------------- the editor fails

fresh
edit 1 fail "$file"
says fail "exit status 3"
says fail "fobctl: $file: not changed"
holds fail "$one"
nothing_kept fail

fresh
edit 1 append-and-fail "$file"
says append-and-fail "exit status 3"
holds append-and-fail "$one"
kept append-and-fail "$one
$two"

fresh
edit 1 append-and-die "$file"
says append-and-die "killed by signal 9"
holds append-and-die "$one"
kept append-and-die "$one
$two"

fresh
edit 1 remove "$file"
says remove "not changed: the copy is gone"
holds remove "$one"
nothing_kept remove

fresh
edit 1 move-away "$file"
says move-away "the editor left something there"
holds move-away "$one"
is move-away "what is kept" "$(cat "$TMPDIR"/fobctl.*/10-a.policy.mine)" "$one
$two"

fresh
edit 1 make-symlink "$file"
says make-symlink "is a symlink"
holds make-symlink "$one"
is make-symlink "what is kept" "$(cat "$TMPDIR"/fobctl.*/10-a.policy.mine)" "$one"

fresh
EDITOR=/nonexistent/editor "$BUILD/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
is "no editor" "exit status" $? 1
says "no editor" "exit status 127: not found?"
holds "no editor" "$one"
nothing_kept "no editor"

# shellcheck disable=SC3045 # where there is such a limit
ulimit -c 0 2>/dev/null
for signal in HUP:129 TERM:143 SEGV:139; do # fobctl itself: it still says where the text is
    editor killed <<END
echo '$two' >>"\$1"
kill -${signal%:*} \$PPID
END
    fresh
    edit "${signal#*:}" killed "$file"
    holds "$signal" "$one"
    kept "$signal" "$one
$two"
done

# ---------------------------------------------------------------- somebody else changes the file meanwhile

fresh
edit 1 interfere "$file"
says interfere "$file: was changed by somebody else meanwhile"
holds interfere "$one
# by somebody else"
kept interfere "$one
$two"

fresh
edit 1 interfere-by-rename "$file"
holds interfere-by-rename "$one"
kept interfere-by-rename "$one
$two"

fresh
edit 1 interfere-with-mode "$file"
holds interfere-with-mode "$one" 600
kept interfere-with-mode "$one
$two"

fresh
edit 1 vanish "$file"
is vanish "the directory" "$(ls -A "$dir")" 05-other.policy
kept vanish "$one
$two"

fresh
edit 1 appear "$dir/20-new.policy"
is appear "the file" "$(cat "$dir/20-new.policy")" "$one"
kept appear "$two" 20-new.policy

# ---------------------------------------------------------------- refused before the editor starts

refuses() { # STATUS MESSAGE ARGUMENT...
    status=$1 message=$2
    shift 2
    EDITOR="touch $tmp/edited" "$BUILD/fobctl" -s "$control" edit "$@" </dev/null >/dev/null 2>"$tmp/err"
    is "edit $*" "exit status" $? "$status"
    says "edit $*" "$message"
    if [ -e "$tmp/edited" ]; then bad "edit $*: the editor was started"; else ok; fi
    rm -f "$tmp/edited"
    nothing_kept "edit $*"
}
fresh
ln -s 10-a.policy "$dir/link.policy"
mkfifo "$dir/fifo.policy"
mkdir "$dir/dir.policy"
refuses 2 "edit: needs one file"
refuses 2 "edit: needs one file" "$file" "$file"
refuses 2 "edit: unknown option" -x "$file"
refuses 2 "usage: fobctl edit FILE" "$dir/README"
refuses 2 "its name does not end in .policy" "$dir/.policy"
refuses 2 "its name does not end in .policy" "$dir/"
refuses 1 "$dir/link.policy: is a symlink" "$dir/link.policy"
refuses 1 "$dir/fifo.policy: is not a regular file" "$dir/fifo.policy"
refuses 1 "$dir/dir.policy: is not a regular file" "$dir/dir.policy"
refuses 1 "$tmp/nowhere: No such file" "$tmp/nowhere/a.policy"
refuses 1 "$file: Not a directory" "$file/a.policy"
if [ ! -e /etc/fob/policy.d ]; then
    refuses 1 "fobctl: /etc/fob/policy.d: No such file" a.policy
fi
rm -r "$dir/dir.policy" "$dir/fifo.policy" "$dir/link.policy"
holds refused "$one"
TMPDIR=$tmp/nowhere "$BUILD/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
is "no TMPDIR" "exit status" $? 1
says "no TMPDIR" "$file: a copy cannot be made: No such file or directory (TMPDIR says where)"

# ---------------------------------------------------------------- questions at a terminal

# answer STATUS EDITOR KEYS: standard error is what the terminal showed
answer() {
    # shellcheck disable=SC2059 # the keys are a format
    printf "$3" | SHELL=/bin/sh EDITOR="exec sh $tmp/ed/$2" \
        script -qec "'$BUILD/fobctl' -s '$control' edit '$file'" /dev/null >"$tmp/err" 2>&1
    is "$2, $3" "exit status" $? "$1"
}
when_asked() { # types ^C
    i=0
    until grep -q 'What now' "$tmp/screen" || [ $i = 100 ]; do
        i=$((i + 1))
        sleep 0.1
    done
    printf '\003'
    sleep 0.5
}
questions() {
    fresh
    answer 3 append 'y\n'
    says "yes" "Put it in force? (y)es, (e)dit again, (d)iscard: "
    holds "yes" "$one
$two"
    nothing_kept "yes"

    fresh
    answer 3 append '\nwhat?\ne\nY\n' # asked until there is an answer; and once more
    holds "edit again" "$one
$two
$two"

    fresh
    answer 1 append 'd\n'
    holds "discard" "$one"
    nothing_kept "discard"

    fresh
    answer 1 append '\004' # gone without an answer
    holds "end of input" "$one"
    kept "end of input" "$one
$two"

    fresh
    answer 3 stubborn 'y\ne\ny\n' # there is no `yes` to a mistake
    says "mend" "What now? (e)dit again, (d)iscard, (k)eep the copy: "
    holds "mend" "$one
$two"
    nothing_kept "mend"

    fresh
    answer 4 mistake 'k\n'
    holds "keep" "$one"
    kept "keep" "$one
allow nonsense"

    fresh
    answer 1 mistake 'd\n'
    holds "discard a mistake" "$one"
    nothing_kept "discard a mistake"

    fresh
    : >"$tmp/screen"
    when_asked | SHELL=/bin/sh EDITOR="exec sh $tmp/ed/mistake" \
        script -qec "'$BUILD/fobctl' -s '$control' edit '$file'" /dev/null >"$tmp/screen" 2>&1
    is "^C" "exit status" $? 130
    cp "$tmp/screen" "$tmp/err"
    holds "^C" "$one"
    kept "^C" "$one
allow nonsense"
}
if command -v script >/dev/null; then questions; else echo "no script (util-linux): the questions are not asked"; fi

# ---------------------------------------------------------------- as root: other users, full and read-only file systems

as_user() { # COMMAND...
    setpriv --reuid 2001 --regid 2001 --clear-groups -- "$@"
}
other_users() {
    install -m 0755 "$BUILD/fobctl" "$tmp/"
    fresh
    chown 0:2001 "$file"
    edit 3 append "$file"
    is "owner" "mode and owner" "$(stat -c '%a %u %g' "$file")" "640 0 2001"

    fresh
    chown -R 2001:2001 "$dir" "$TMPDIR"
    EDITOR="sh $tmp/ed/append" as_user "$tmp/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
    is "a user's own" "exit status" $? 3
    holds "a user's own" "$one
$two"
    is "a user's own" "owner" "$(stat -c '%u %g' "$file")" "2001 2001"

    fresh
    chown 2001:2001 "$dir" "$TMPDIR"
    chmod 0644 "$file" # root's, in the user's directory: would become the user's
    EDITOR="sh $tmp/ed/append" as_user "$tmp/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
    is "root's file" "exit status" $? 1
    says "root's file" "Operation not permitted"
    holds "root's file" "$one" 644
    kept "root's file" "$one
$two"

    fresh
    chown 2001 "$TMPDIR"
    EDITOR="touch $tmp/edited" as_user "$tmp/fobctl" -s "$control" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
    is "root's directory" "exit status" $? 1
    says "root's directory" "$dir: Permission denied"
    nothing_kept "root's directory"
}
# mounted STATUS EDITOR: the policy is on a file system of sixteen pages, which nobody else sees
mounted() {
    # shellcheck disable=SC2016 # for the inner shell
    EDITOR="exec sh $tmp/ed/$2" unshare -m sh -c '
        mount -t tmpfs -o size=64k,mode=755 none "$1" || exit 99
        printf "%s\n" "$2" >"$1/10-a.policy"
        "$3" -s "$4" edit "$1/10-a.policy" </dev/null
        status=$?
        ls -A "$1" >"$5"
        cat "$1/10-a.policy" >>"$5"
        exit $status' sh "$dir" "$one" "$BUILD/fobctl" "$control" "$tmp/after" >"$tmp/out" 2>"$tmp/err"
    is "mounted: $2" "exit status" $? "$1"
    is "mounted: $2" "what is there" "$(cat "$tmp/after")" "10-a.policy
$one"
}
editor read-only <<END
echo '$two' >>"\$1"
mount -o remount,ro '$dir'
END
editor full <<END
echo '$two' >>"\$1"
yes '# a comment that fills a file system of sixteen pages' | head -n 2000 >>"\$1"
END
file_systems() {
    fresh
    mounted 1 full
    says "full" "No space left on device"
    says "full" "your text is kept in"
    is "full" "lines kept" "$(cat "$TMPDIR"/fobctl.*/10-a.policy | wc -l)" 2002
    fresh
    mounted 1 read-only
    says "read-only" "Read-only file system"
    kept "read-only" "$one
$two"
}
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then other_users; fi
if [ "$(id -u)" = 0 ] && mkdir "$tmp/mnt" && unshare -m mount -t tmpfs none "$tmp/mnt" 2>/dev/null; then file_systems; fi

# ---------------------------------------------------------------- a real broker

broker() {
    printf 'user 64999\nworkers 1\naudit none\n' >"$tmp/conf"
    mkdir "$tmp/data"
    printf '1\n' >"$tmp/data/one"
    chmod 0600 "$tmp/data/one"
    "$BUILD/fobd" -f "$tmp/conf" -p "$dir" -s "$tmp/sock" 2>"$tmp/log" &
    fobd=$!
    i=0
    until "$BUILD/fob" -s "$tmp/sock" ping >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
    control=$tmp/sock.control
    if [ ! -S "$control" ]; then
        echo "fobd has no control socket: what reloading does is not tested: $(cat "$tmp/log")"
        return
    fi
    is "broker" "check before" "$("$BUILD/fob" -s "$tmp/sock" check "$tmp/data/one" 2>&1)" "$tmp/data/one: refused"
    edit 0 grant "$file"
    nothing_kept "broker"
    is "broker" "check after" "$("$BUILD/fob" -s "$tmp/sock" check "$tmp/data/one" 2>&1)" "$tmp/data/one: allowed"
    edit 4 mistake "$file"
    is "broker" "check after a mistake" "$("$BUILD/fob" -s "$tmp/sock" check "$tmp/data/one" 2>&1)" \
        "$tmp/data/one: allowed"
    mkdir "$tmp/other.d" # what the broker reads is not what was checked
    printf 'allow nonsense\n' >"$dir/70.policy"
    edit 4 append "$tmp/other.d/a.policy"
    says "broker" "a.policy: in place, but the broker refused the policy: the one before stays in force"
    is "broker" "the file" "$(cat "$tmp/other.d/a.policy")" "$two"
    is "broker" "check after a refusal" "$("$BUILD/fob" -s "$tmp/sock" check "$tmp/data/one" 2>&1)" \
        "$tmp/data/one: allowed"
}
editor grant <<END
echo 'allow user:$(id -u) read $tmp/data/*' >>"\$1"
END
fresh
if [ "$(id -u)" = 0 ]; then broker; fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
