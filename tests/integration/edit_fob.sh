#!/bin/sh
# edit_fob.sh: fob edit against a real, confined fobd, as several users, with editors that are scripts: what is in the file
# afterwards, what is kept when it is not, what is left over.
# shellcheck disable=SC2016 # scripts in single quotes are for others
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (several uids)"
    exit 77
fi
for need in setpriv prlimit; do
    command -v $need >/dev/null || { echo "skipped: no $need (util-linux)"; exit 77; }
done
passed=0 failed=0
umask 022
PATH=/usr/sbin:/usr/bin:/sbin:/bin # each can be searched by everybody
export PATH
tmp=$(mktemp -d /tmp/fob-edit.XXXXXX)
chmod 0755 "$tmp"
fobd=
finish() {
    [ -z "$fobd" ] || { kill "$fobd" && wait "$fobd"; } 2>/dev/null
    umount "$tmp/small" 2>/dev/null
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
unset VISUAL EDITOR
install -m 0755 "$BUILD/fob" "$BUILD/fobd" "$tmp/"
fob=$tmp/fob vault=$tmp/vault
export TMPDIR="$tmp/private" # where the copies are

as() { # UID COMMAND...
    uid=$1
    shift
    setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
}
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
editor append <<'END'
echo two >>"$1"
END
editor overwrite <<'END'
echo three >"$1"
END
editor empty <<'END'
: >"$1"
END
editor rewrite <<'END'
cat "$1" >"$1.new" && cat "$1.new" >"$1" && touch -d '2001-02-03 04:05:06' "$1"
END
editor fail <<'END'
exit 3
END
editor append-and-fail <<'END'
echo two >>"$1"
exit 3
END
editor append-and-die <<'END'
echo two >>"$1"
kill -KILL $$
END
editor remove <<'END'
rm "$1"
END
editor remove-all <<'END'
rm -r "${1%/*}"
END
editor move-away <<'END'
echo two >>"$1"
mv "$1" "$1.mine"
END
editor by-rename <<'END'
cp "$1" "$1~"
cp "$1" "$1.new"
echo two >>"$1.new"
mkdir "${1%/*}/lock"
: >"${1%/*}/lock/.swp"
chmod 0666 "$1.new"
mv "$1.new" "$1"
END
editor make-symlink <<'END'
mv "$1" "$1.mine"
ln -s "$1.mine" "$1"
END
editor link-to-secret <<'END'
ln -sf /etc/passwd "$1"
END
editor make-fifo <<'END'
rm "$1"
mkfifo "$1"
END
editor make-directory <<'END'
rm "$1"
mkdir "$1"
END
editor interrupted <<'END'
kill -INT $PPID
kill -QUIT $PPID
echo two >>"$1"
END
editor large <<'END'
head -c 90000 /dev/zero | tr '\0' x >"$1"
END
# Nobody but root can interfere with the file itself: the test does it while this one waits.
editor wait <<END
echo two >>"\$1"
: >'$tmp/run/started'
i=0
until [ -e '$tmp/run/go' ] || [ \$i = 200 ]; do
    i=\$((i + 1))
    sleep 0.05
done
END
chmod -R a+rX "$tmp/ed"

# ---------------------------------------------------------------- a broker

mkdir -m 0700 "$vault" "$tmp/new" "$tmp/small"
mkdir -m 1777 "$tmp/run"
mounted=no
mount -t tmpfs -o size=128k,mode=0700 tmpfs "$tmp/small" 2>/dev/null && mounted=yes
cat >"$tmp/policy" <<END
allow user:2001 read,write,create $vault/dangling $tmp/small/*
allow user:2001 read,write $vault/**
deny user:2001 all $vault/secret
allow user:2001 read,write,create $tmp/new/** mode=0640
allow user:2001 read $tmp/ro
allow user:2001 write $tmp/wo
allow user:2001 read,write,list $tmp/fifo $tmp/dir type=file,fifo,dir
allow user:2002 read $vault/**
END
printf 'socket %s/sock\npolicy %s/policy\naudit none\nuser 64999\nworkers 1\n' "$tmp" "$tmp" >"$tmp/conf"
export FOB_SOCKET="$tmp/sock"
start() {
    "$tmp/fobd" -f "$tmp/conf" 2>>"$tmp/log" &
    fobd=$!
    i=0
    until as 2001 "$fob" ping >/dev/null 2>&1 || [ $i = 50 ]; do
        i=$((i + 1))
        sleep 0.1
    done
}
stop() {
    kill "$fobd" && wait "$fobd"
    fobd=
}
start

# ---------------------------------------------------------------- one edit

file=$vault/one.conf
# fresh: files as they are before each; of root, and nobody else can get there
fresh() {
    rm -rf "$vault" "$TMPDIR" "$tmp/new" "$tmp"/run/*
    mkdir -m 0700 "$vault" "$tmp/new"
    mkdir -m 0700 "$TMPDIR"
    chown 2001:2001 "$TMPDIR"
    printf 'one\n' >"$file"
    chmod 0640 "$file"
    chown 0:64000 "$file"
    before=$(stat -c '%i %u %g %a' "$file")
}
# edit STATUS EDITOR ARGUMENT...: as $who; its standard error is $tmp/err
who=2001
edit() {
    status=$1 name=$2
    shift 2
    as "$who" env EDITOR="sh $tmp/ed/$name" "$fob" edit "$@" </dev/null >"$tmp/out" 2>"$tmp/err"
    is "$name" "exit status" $? "$status"
}
# meanwhile STATUS COMMAND PATH: what root does while the editor runs
meanwhile() {
    as "$who" env EDITOR="sh $tmp/ed/wait" "$fob" edit "$3" </dev/null >"$tmp/out" 2>"$tmp/err" &
    editing=$!
    i=0
    until [ -e "$tmp/run/started" ] || [ $i = 100 ]; do
        i=$((i + 1))
        sleep 0.05
    done
    eval "$2"
    : >"$tmp/run/go"
    wait $editing
    is "$2" "exit status" $? "$1"
}
says() { # NAME TEXT: a part of what standard error was
    if grep -qF -- "$2" "$tmp/err"; then ok; else bad "$1: standard error has no \`$2\`:
$(cat "$tmp/err")"; fi
}
said() { # NAME TEXT: all of it
    is "$1" "standard error" "$(cat "$tmp/err")" "$2"
}
holds() { # NAME TEXT: the same file as before, of the same owner and mode, and nothing else in its directory
    is "$1" "the file" "$(cat "$file" 2>&1)" "$2"
    is "$1" "inode, owner, mode" "$(stat -c '%i %u %g %a' "$file" 2>&1)" "$before"
    is "$1" "the directory" "$(ls -A "$vault")" one.conf
}
nothing_kept() { # NAME
    is "$1" "what is kept" "$(ls -A "$TMPDIR")" ""
}
kept() { # NAME TEXT [BASE]: the copy, where the message says that it is
    copy=$(sed -n 's/.*: not changed; your text is kept in //p' "$tmp/err")
    is "$1" "the copy's name" "${copy##*/}" "${3:-one.conf}"
    is "$1" "the copy" "$(cat "$copy" 2>&1)" "$2"
    is "$1" "the copy's owner and mode" "$(stat -c '%u %a' "$copy" 2>&1)" "$who 600"
    is "$1" "its directory" "$(stat -c '%u %a' "$TMPDIR"/fob.*)" "$who 700"
    is "$1" "what is kept" "$(ls -A "$TMPDIR"/fob.*)" "${3:-one.conf}"
}

# ---------------------------------------------------------------- written back

fresh
edit 0 append "$file"
holds append "one
two"
said append ""
nothing_kept append

fresh
edit 0 overwrite "$file"
holds overwrite three

fresh
seq 5000 >"$file"
edit 0 overwrite "$file" # shorter: what stood behind is gone
holds shorter three

fresh
edit 0 large "$file"
is large "length" "$(wc -c <"$file")" 90000

fresh
edit 0 empty "$file"
holds empty ""

fresh
edit 0 by-rename "$file" # as most editors do it, with a backup and a lock
holds by-rename "one
two"
nothing_kept by-rename

fresh
edit 0 interrupted "$file" # ^C is the editor's own business
holds interrupted "one
two"

fresh
printf 'a\0b\377' >"$file" # any bytes, and no newline at the end
edit 0 append "$file"
is bytes "the file" "$(od -An -c "$file" | tr -s ' ')" "$(printf 'a\0b\377two\n' | od -An -c | tr -s ' ')"

fresh
cd "$tmp" || exit 1
edit 0 append vault/./one.conf
cd / || exit 1
holds "relative path" "one
two"

fresh
ln -s one.conf "$vault/link"
edit 0 append "$vault/link"
is "symlink" "it" "$(readlink "$vault/link")" one.conf
rm "$vault/link"
holds "symlink" "one
two"

fresh
strange=$vault/$(printf 'a\033 $(touch x);"b.txt')
printf 'one\n' >"$strange"
edit 0 append "$strange"
is "strange name" "the file" "$(cat "$strange")" "one
two"
edit 0 nothing "$strange"
said "strange name" "fob: $vault/a\\x1b \$(touch x);\"b.txt: unchanged"
nothing_kept "strange name"

fresh
long=$vault/$(printf '%0251d' 0).txt # of 255 bytes
cp "$file" "$long"
edit 0 append "$long"
is "long name" "the file" "$(cat "$long")" "one
two"

fresh
printf 'one\n' >"$vault/.original" # the name of what is beside the copy
edit 0 append "$vault/.original"
is ".original" "the file" "$(cat "$vault/.original")" "one
two"
nothing_kept .original

# What the editor gets: a file of its own name, for nobody else, and the signals that it expects.
editor look <<'END'
echo "${1##*/} $(stat -c '%u %a' "$1") $(stat -c '%u %a' "${1%/*}") $(cat "$1")" >"$LOOK"
sed -n 's/^SigIgn.*\(........\)$/\1/p' /proc/self/status >"$LOOK.signals"
ls /proc/$$/fd >"$LOOK.fds"
END
fresh
export LOOK="$tmp/run/look"
umask 0777
edit 0 look "$file"
umask 022
is look "what it sees" "$(cat "$LOOK")" "one.conf 2001 600 2001 700 one"
is look "ignored signals" "$((0x$(cat "$LOOK.signals") & 0x7fffffff))" 0 # but for those of libc's own
fds=$(cat "$LOOK.fds")
as 2001 sh "$tmp/ed/look" "$tmp/ed/look" </dev/null >"$tmp/out" 2>"$tmp/err" # without fob
is look "descriptors" "$fds" "$(cat "$LOOK.fds")"

# Large files go through a small memory.
if [ -z "${FOB_SANITIZE-}" ]; then
    editor memory <<'END'
grep VmHWM /proc/$PPID/status | tr -dc 0-9 >"$LOOK"
echo two >>"$1"
END
    fresh
    head -c 100000000 /dev/urandom >"$file"
    cp "$file" "$tmp/large" && echo two >>"$tmp/large"
    edit 0 memory "$file"
    if cmp "$file" "$tmp/large"; then ok; else bad "a file of 100 MB differs"; fi
    if [ "$(cat "$LOOK")" -lt 20000 ]; then ok; else bad "a file of 100 MB takes $(cat "$LOOK") kB of memory"; fi
    rm "$tmp/large"
fi

# ---------------------------------------------------------------- which editor

# run STATUS: with the environment as it is
run() {
    as 2001 "$fob" edit "$file" </dev/null >/dev/null 2>"$tmp/err"
    is "VISUAL=${VISUAL-} EDITOR=${EDITOR-}" "exit status" $? "$1"
}
chosen() { # VISUAL EDITOR: the append editor is
    fresh
    VISUAL=$1 EDITOR=$2
    export VISUAL EDITOR
    run 0
    holds "VISUAL=$1 EDITOR=$2" "one
two"
    nothing_kept "VISUAL=$1 EDITOR=$2"
    unset VISUAL EDITOR
}
chosen "sh $tmp/ed/append" false
chosen "" "sh $tmp/ed/append"
chosen " 	" "  sh   $tmp/ed/append	"
chosen "'sh' \"$tmp/ed/\"app\\end" false
mkdir "$tmp/ed/with blank" "$tmp/ed/a" "$tmp/ed/b"
cp "$tmp/ed/append" "$tmp/ed/with blank/\$HOME;*"
chosen "sh '$tmp/ed/with blank/\$HOME;*'" false # no shell looks at it
printf '#!/bin/sh\nexec /bin/sh "%s" "$1"\n' "$tmp/ed/append" >"$tmp/ed/a/editor"
chmod 0755 "$tmp/ed/a/editor"
cp "$tmp/ed/a/editor" "$tmp/ed/b/vi"
PATH=$tmp/ed/a:$PATH chosen "" "" # none is set: editor, else vi

fresh
as 2001 env PATH="$tmp/ed/b" "$fob" edit "$file" </dev/null >/dev/null 2>&1
holds "vi" "one
two"

fresh
as 2001 env EDITOR="/nonexistent/\"edi tor\"" "$fob" edit "$file" 2>"$tmp/err"
is "no editor" "exit status" $? 1
said "no editor" "fob: /nonexistent/edi tor: No such file or directory (VISUAL or EDITOR names the editor)
fob: $file: not changed"
nothing_kept "no editor"

# shellcheck disable=SC2089,SC2090 # quotes are for fob
# An editor variable brings no files in (CVE-2023-22809): a -- is refused, and of two files one alone is the copy.
for variable in "sh $tmp/ed/append -- $vault/other" "sh $tmp/ed/append '--'" "--" "sh \\-- x"; do
    fresh
    EDITOR=$variable
    export EDITOR
    run 1
    says "EDITOR=$variable" "has a \`--\`"
    holds "EDITOR=$variable" one
    nothing_kept "EDITOR=$variable"
done
fresh
EDITOR="sh 'unfinished"
run 1
said "$EDITOR" "fob: sh 'unfinished: a quote is not closed
fob: $file: not changed"
printf 'other\n' >"$vault/other"
EDITOR="sh $tmp/ed/append $vault/other"
run 1 # that one is no business of fob's: the shell cannot open it
says "two files" "$vault/other: Permission denied"
is "two files" "the other" "$(cat "$vault/other")" other
rm "$vault/other"
holds "two files" one
unset EDITOR

# Real ones, where they are.
if command -v vim >/dev/null; then
    fresh
    for how in yes no auto; do # by rename, in place
        as 2001 env EDITOR="vim -u NONE -n -es -c 'set backup backupcopy=$how' -c 's/^/$how /' -c wq" HOME=/ "$fob" edit "$file" \
            </dev/null >/dev/null 2>"$tmp/err"
        is vim "exit status, messages" "$? $(cat "$tmp/err")" "0 "
    done
    holds vim "auto no yes one"
    nothing_kept vim
fi
if command -v ed >/dev/null; then
    fresh
    printf 'a\ntwo\n.\nw\nq\n' | as 2001 env EDITOR='ed -s' "$fob" edit "$file" >"$tmp/out" 2>"$tmp/err"
    is ed "exit status, output" "$? $(cat "$tmp/out" "$tmp/err")" "0 "
    holds ed "one
two"
fi

# Where the copy is: TMPDIR, unless nothing can be made there.
fresh
rmdir "$TMPDIR"
as 2001 env EDITOR="sh $tmp/ed/look" "$fob" edit "$file" 2>"$tmp/err"
is "no TMPDIR" "what the editor saw" "$? $(cat "$LOOK")" "0 one.conf 2001 600 2001 700 one"
as 2001 env EDITOR="sh $tmp/ed/look" TMPDIR=here "$fob" edit "$file" 2>"$tmp/err"
is "a relative TMPDIR" "exit status" $? 0

# ---------------------------------------------------------------- nothing to write

fresh
touch -d '2001-02-03 04:05:06.789' "$file"
was=$(stat -c '%i %y %z' "$file")
edit 0 nothing "$file"
said nothing "fob: $file: unchanged"
is nothing "the file" "$(stat -c '%i %y %z' "$file")" "$was"
nothing_kept nothing
edit 0 rewrite "$file" # the same text
is rewrite "the file" "$(stat -c '%i %y %z' "$file")" "$was"
nothing_kept rewrite

# ---------------------------------------------------------------- a new file

fresh
edit 0 append "$tmp/new/a.txt"
said "new file" ""
is "new file" "it" "$(stat -c '%u %g %a' "$tmp/new/a.txt") $(cat "$tmp/new/a.txt")" "2001 2001 640 two"
nothing_kept "new file"

fresh
umask 077
edit 0 append "$tmp/new/a.txt"
umask 022
is "new file, umask" "it" "$(stat -c %a "$tmp/new/a.txt")" 600

fresh
edit 0 nothing "$tmp/new/a.txt"
said "no new file" "fob: $tmp/new/a.txt: unchanged"
is "no new file" "the directory" "$(ls -A "$tmp/new")" ""

fresh
edit 1 append "$vault/none"
said "not to be made" "fob: $vault/none: No such file or directory (and to create it is refused by policy)"
nothing_kept "not to be made"

fresh
edit 1 append "$tmp/new/none/a.txt" # which only making it shows
says "no directory" "fob: $tmp/new/none/a.txt: No such file or directory"
kept "no directory" two a.txt

fresh
meanwhile 1 'echo theirs >"$tmp/new/a.txt"' "$tmp/new/a.txt"
says appear "fob: $tmp/new/a.txt: was changed by somebody else meanwhile"
is appear "the file" "$(cat "$tmp/new/a.txt")" theirs
kept appear two a.txt

# ---------------------------------------------------------------- the editor fails

fresh
edit 1 fail "$file"
said fail "fob: sh: exit status 3
fob: $file: not changed"
holds fail one
nothing_kept fail

fresh
edit 1 append-and-fail "$file"
says append-and-fail "fob: sh: exit status 3"
holds append-and-fail one
kept append-and-fail "one
two"

fresh
edit 1 append-and-die "$file"
says append-and-die "fob: sh: killed by signal 9"
holds append-and-die one
kept append-and-die "one
two"

fresh
edit 1 remove "$file"
said remove "fob: $file: not changed: the copy is gone"
holds remove one
nothing_kept remove

fresh
edit 1 remove-all "$file"
said remove-all "fob: $file: not changed: the copy is gone"
holds remove-all one

fresh
edit 1 move-away "$file"
says move-away "the editor left something there"
holds move-away one
is move-away "what is kept" "$(ls -A "$TMPDIR"/fob.*) $(cat "$TMPDIR"/fob.*/one.conf.mine)" "one.conf.mine one
two"

for name in make-symlink link-to-secret make-fifo make-directory; do
    fresh
    edit 1 $name "$file"
    case $name in
    *link*) says "$name" "/one.conf: is a symlink" ;;
    *) says "$name" "/one.conf: is not a regular file of yours" ;;
    esac
    holds "$name" one
done

# fob itself is ended: it says first where the text is.
for signal in HUP:129 TERM:143; do
    editor killed <<END
echo two >>"\$1"
kill -${signal%:*} \$PPID
sleep 1
END
    fresh
    edit "${signal#*:}" killed "$file"
    holds "$signal" one
    copy=$(sed -n 's/.*: not changed; your text is kept in //p' "$tmp/err")
    is "$signal" "the copy" "$(cat "$copy")" "one
two"
done

# ---------------------------------------------------------------- somebody else changes the file meanwhile

changed() { # NAME
    says "$1" "fob: $file: was changed by somebody else meanwhile"
    kept "$1" "one
two"
}
fresh
meanwhile 1 'echo theirs >>"$file"' "$file"
changed appended
holds appended "one
theirs"

fresh
meanwhile 1 'printf "ONE\n" >"$tmp/run/x" && touch -r "$file" "$tmp/run/x" && cat "$tmp/run/x" >"$file" && touch -r "$tmp/run/x" "$file"' "$file"
changed "same size and time"
holds "same size and time" ONE

fresh
meanwhile 1 'touch "$file"' "$file" # it may have been changed and changed back
changed touched

fresh
meanwhile 1 'cp -p "$file" "$file.new" && mv "$file.new" "$file"' "$file"
changed renamed
is renamed "the file" "$(cat "$file")" one

fresh
printf 'other\n' >"$vault/other"
ln -s one.conf "$vault/link"
meanwhile 1 'ln -sfn other "$vault/link"' "$vault/link"
says retargeted "fob: $vault/link: was changed by somebody else meanwhile"
is retargeted "the files" "$(cat "$vault/other" "$file")" "other
one"
kept retargeted "one
two" link

fresh
meanwhile 1 'rm "$file"' "$file"
says vanished "fob: $file: No such file or directory"
kept vanished "one
two"

fresh
meanwhile 0 'chmod 0600 "$file"' "$file" # not what is in it
is "another mode" "the file" "$(stat -c %a "$file") $(cat "$file")" "600 one
two"

# The policy, the broker.
fresh
cp "$tmp/policy" "$tmp/policy.before"
meanwhile 1 'echo "deny any write $file" >>"$tmp/policy"
    kill -HUP $fobd
    i=0
    while as 2001 "$fob" check -w "$file" >/dev/null && [ $i != 50 ]; do i=$((i + 1)) && sleep 0.1; done' "$file"
says "refused meanwhile" "fob: $file: Permission denied (refused by policy)"
holds "refused meanwhile" one
kept "refused meanwhile" "one
two"
cp "$tmp/policy.before" "$tmp/policy"

stop
start
fresh
meanwhile 0 'stop; start' "$file"
said "another broker" ""
holds "another broker" "one
two"

fresh
meanwhile 1 stop "$file"
says "no broker meanwhile" "fob: $file: "
holds "no broker meanwhile" one
kept "no broker meanwhile" "one
two"

fresh
edit 3 append "$file"
said "no broker" "fob: $tmp/sock: No such file or directory (is fobd running?)"
start

# ---------------------------------------------------------------- it cannot be written

many() { # CHARACTER HOW-OFTEN
    head -c "$2" /dev/zero | tr '\0' "$1"
}
kept_sum() { # NAME CHARACTER HOW-OFTEN
    copy=$(sed -n 's/.*: not changed; your text is kept in //p' "$tmp/err")
    is "$1" "the copy" "$(sha256sum <"$copy")" "$(many "$2" "$3" | sha256sum)"
}

# No room: found out before anything is written.
if [ $mounted = yes ]; then
    fresh
    printf 'one\n' >"$tmp/small/one.conf"
    head -c 60000 /dev/zero >"$tmp/small/other"
    was=$(stat -c '%i %u %g %a %s %b' "$tmp/small/one.conf")
    edit 1 large "$tmp/small/one.conf"
    says "no room" "fob: $tmp/small/one.conf: No space left on device"
    is "no room" "the file" "$(stat -c '%i %u %g %a %s %b' "$tmp/small/one.conf") $(head -c 10 "$tmp/small/one.conf")" "$was one"
    kept_sum "no room" x 90000
    fresh
    edit 1 large "$tmp/small/new"
    says "no room, new" "fob: $tmp/small/new: No space left on device (it was made, and is empty)"
    is "no room, new" "length and blocks" "$(stat -c '%s %b' "$tmp/small/new")" "0 0"
    kept_sum "no room, new" x 90000
else
    echo "not tested: a full file system (none can be mounted)"
fi

# No more than so many bytes, which shows amid the writing. Then what there was is put back.
editor limited <<'END'
prlimit --pid $PPID --fsize=50000:
head -c 90000 /dev/zero | tr '\0' x >"$1"
END
fresh
many y 40000 >"$file"
edit 1 limited "$file"
says limited "fob: $file: File too large (the former contents were put back)"
is limited "the file" "$(sha256sum <"$file")" "$(many y 40000 | sha256sum)"
kept_sum limited x 90000

# And when that cannot be done either, both texts are there.
fresh
many y 60000 >"$file"
edit 1 limited "$file"
says damaged "fob: $file: IS DAMAGED: the former contents cannot be put back: File too large"
is damaged "what is kept" "$(ls -A "$TMPDIR"/fob.*)" ".original
one.conf"
is damaged "the text" "$(cat "$TMPDIR"/fob.*/one.conf | sha256sum)" "$(many x 90000 | sha256sum)"
is damaged "what the file held" "$(cat "$TMPDIR"/fob.*/.original | sha256sum)" "$(many y 60000 | sha256sum)"

fresh
edit 1 limited "$tmp/new/a.txt"
says "limited, new" "fob: $tmp/new/a.txt: File too large (it was made, and is empty)"
is "limited, new" "length" "$(wc -c <"$tmp/new/a.txt")" 0
kept_sum "limited, new" x 90000

# ---------------------------------------------------------------- refused before the editor starts

refuses() { # STATUS MESSAGE ARGUMENT...
    status=$1 message=$2
    shift 2
    as $who env EDITOR="touch $tmp/run/edited" "$fob" edit "$@" </dev/null >/dev/null 2>"$tmp/err"
    is "edit $*" "exit status" $? "$status"
    says "edit $*" "$message"
    if [ -e "$tmp/run/edited" ]; then bad "edit $*: the editor was started"; else ok; fi
    rm -f "$tmp/run/edited"
    nothing_kept "edit $*"
}
fresh
printf 'secret\n' >"$vault/secret"
ln -s secret "$vault/link"
printf 'ro\n' >"$tmp/ro"
printf 'wo\n' >"$tmp/wo"
mkfifo "$tmp/fifo"
mkdir "$tmp/dir"
chmod 0600 "$tmp/ro" "$tmp/wo" "$tmp/fifo"
refuses 2 "edit: needs one path"
refuses 2 "edit: needs one path" "$file" "$file"
refuses 2 "usage: fob" -x "$file"
refuses 1 "fob: $vault/secret: Permission denied (refused by policy)" "$vault/secret"
refuses 1 "fob: $vault/link: Permission denied (refused by policy)" "$vault/link"
ln -s nowhere "$vault/dangling"
refuses 1 "fob: $vault/dangling: Permission denied (refused by policy)" "$vault/dangling"
refuses 1 "fob: $tmp/ro: Permission denied (refused by policy)" "$tmp/ro"
refuses 1 "fob: $tmp/wo: Permission denied (refused by policy)" "$tmp/wo"
refuses 1 "fob: $tmp/fifo: is not a regular file" "$tmp/fifo"
refuses 1 "fob: $tmp/dir: Is a directory" "$tmp/dir"
refuses 1 "fob: /: " /
refuses 1 "fob: ../x: Invalid argument" ../x
refuses 1 "fob: /x\\n\\x1b[2J: Permission denied (refused by policy)" "$(printf '/x\n\033[2J')"
who=2002
mkdir "$tmp/private2" && chown 2002 "$tmp/private2" && TMPDIR=$tmp/private2
refuses 1 "fob: $file: Permission denied (refused by policy)" "$file"
who=0
refuses 1 "fob: $file: Permission denied (refused by policy)" "$file"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
