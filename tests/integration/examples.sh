#!/bin/sh
# examples.sh: each example policy loads as it is, and does what it is for: a copy of it, moved beneath a temporary folder,
# is served by a real fobd to the users that it names.
set -u
: "${BUILD:?the build folder}"
if [ "$(id -u)" != 0 ]; then
    echo "skipped: needs root (the users that the examples name)"
    exit 77
fi
command -v setpriv >/dev/null || { echo "skipped: no setpriv (util-linux)"; exit 77; }
examples=$(cd "$(dirname "$0")/../../policy/examples" && pwd) || exit 1
passed=0 failed=0
tmp=$(mktemp -d /tmp/fob-examples.XXXXXX)
chmod 0755 "$tmp"
fobd=
stop() {
    [ -n "$fobd" ] || return 0
    kill "$fobd" && wait "$fobd"
    status=$?
    fobd=
    return $status
}
finish() {
    stop >/dev/null 2>&1
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
install -m 0755 "$BUILD/fob" "$tmp/" || exit 1
mkdir "$tmp/as-installed" # fobd refuses a policy that others can write, as they may in a working copy
fob="$tmp/fob"
export FOB_SOCKET="$tmp/sock"
umask 022

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "$example: $*"
}

# ---------------------------------------------------------------- as somebody, something

# as WHO COMMAND...: WHO is a user, with the groups of the user database, or group:NAME, somebody with that group alone
as() {
    who=$1
    shift
    case $who in
    group:*) setpriv --reuid 2001 --regid 2001 --groups "${who#group:}" -- "$@" ;;
    *) setpriv --reuid "$who" --regid "$(id -g "$who")" --init-groups -- "$@" ;;
    esac
}
# allowed WHO OUTPUT ARGUMENT...: fob does it, and prints OUTPUT
allowed() {
    who=$1 want=$2
    shift 2
    got=$(as "$who" "$fob" "$@" 2>&1 </dev/null)
    code=$?
    if [ $code = 0 ] && [ "$got" = "$want" ]; then ok; else
        bad "$who: fob $*: exit status $code, said: $got, not: $want"
    fi
}
# stored WHO MODE OWNER ARGUMENT... PATH: fob write puts a line there, into a file of that mode and owner
stored() {
    who=$1 want="$2 $3"
    shift 3
    got=$(umask 0 && echo "written by $who" | as "$who" "$fob" write "$@" 2>&1)
    code=$?
    for path; do :; done
    if [ $code = 0 ] && [ "$(tail -n 1 "$path")" = "written by $who" ]; then ok; else
        bad "$who: fob write $*: exit status $code: $got"
    fi
    got=$(stat -c '%a %U' "$path" 2>&1)
    if [ "$got" = "$want" ]; then ok; else bad "$path is $got, not $want"; fi
}
# refused WHO ARGUMENT...: fob is refused by the policy
refused() {
    who=$1
    shift
    got=$(as "$who" "$fob" "$@" 2>&1 </dev/null)
    code=$?
    case $code:$got in
    1:*"Permission denied (refused by policy)") ok ;;
    *) bad "$who: fob $*: exit status $code, not refused, said: $got" ;;
    esac
}

# ---------------------------------------------------------------- the trees and the broker

# put PATH...: files beneath the root with their own path as text, readable to nobody but root
put() {
    for path; do
        mkdir -p "$root$(dirname "$path")"
        echo "$path" >"$root$path"
        chmod 0600 "$root$path"
    done
}
audited() { grep -q -- "$1" "$tmp/$example.audit"; }

# As it is: no complaint, and assertions of both kinds.
check_example() {
    example=$1
    file="$tmp/as-installed/$example.policy"
    root="$tmp/$example"
    mkdir -m 0755 "$root"
    install -m 0644 "$examples/$example.policy" "$file"
    printf 'user 64999\nworkers 1\naudit file %s/%s.audit\n' "$tmp" "$example" >"$tmp/conf"
    said=$("$BUILD/fobd" -t -f "$tmp/conf" -p "$file" 2>&1)
    code=$?
    if [ $code = 0 ] && [ -z "$said" ]; then ok; else bad "fobd -t: exit status $code: $said"; fi
    for kind in allow deny; do
        n=$(grep -c "^assert $kind " "$file")
        if [ "$n" -ge 2 ]; then ok; else bad "$n lines assert $kind"; fi
    done
}
# The copy: each path, and each home directory, beneath $root. Its assertions must hold too.
serve_example() {
    sed -e '/^#/d' -e "s#\([[:blank:]]\"*\)/#\1$root/#g" -e "s#\([[:blank:]]\"*\)%h#\1$root/%h#g" "$file" >"$root.policy"
    "$BUILD/fobd" -f "$tmp/conf" -p "$root.policy" -s "$FOB_SOCKET" >"$root.log" 2>&1 &
    fobd=$!
    i=0
    until "$fob" ping >/dev/null 2>&1; do
        i=$((i + 1))
        if [ $i = 100 ] || ! kill -0 "$fobd" 2>/dev/null; then
            bad "fobd does not answer"
            cat "$root.log"
            return 1
        fi
        sleep 0.1
    done
}
stop_example() {
    stop
    code=$?
    if [ $code = 0 ]; then ok; else
        bad "fobd: exit status $code at the end"
        cat "$root.log"
    fi
}

# ---------------------------------------------------------------- what each is for

log_readers() {
    log=$root/var/log
    put /var/log/syslog /var/log/btmp /var/log/nginx/access.log /var/log/mail.log /var/log/mail.log.2.gz \
        /var/log/private/a/1.log /var/log/installer/cdebconf /var/log/sysstat/sa21 /var/log/sysstat/sa99
    serve_example || return
    allowed group:adm /var/log/syslog cat "$log/syslog"
    allowed group:adm "access.log" ls "$log/nginx"
    allowed group:staff /var/log/nginx/access.log cat "$log/nginx/access.log"
    allowed list /var/log/mail.log.2.gz cat "$log/mail.log.2.gz"
    allowed www-data /var/log/sysstat/sa21 cat "$log/sysstat/sa21"
    refused group:adm cat "$log/btmp"
    refused group:adm cat "$log/private/a/1.log"
    refused group:adm ls "$log/installer"
    refused group:adm write "$log/syslog"
    refused group:staff cat "$log/syslog"
    refused group:staff ls "$log"
    refused list cat "$log/syslog"
    refused www-data cat "$log/sysstat/sa99"
    refused daemon cat "$log/syslog"
    stop_example
    if audited '"id":"lost-mail"'; then ok; else bad "a reading was not recorded"; fi
    if audited '"id":"status-page"'; then bad "log=refused recorded what was allowed"; else ok; fi
    if audited '"decision":"refused".*"id":"private-logs"'; then ok; else bad "a refusal was not recorded"; fi
}

backup() {
    put /etc/fstab /etc/shadow /etc/ssl/private/server.key /etc/ssh/ssh_host_rsa_key /etc/ssh/sshd_config /srv/www/index.html \
        /srv/git/.ssh/id_rsa /srv/app/tls.key /var/backups/shadow.bak /var/backups/passwd.bak
    archive=$root/var/backups/daily-1.tar.zst
    serve_example || return
    allowed backup "/etc/fstab
/etc/ssh/sshd_config
/srv/www/index.html" cat "$root/etc/fstab" "$root/etc/ssh/sshd_config" "$root/srv/www/index.html"
    allowed backup "app
git
www" ls "$root/srv"
    stored backup 640 backup -c 666 "$archive"
    stored backup 640 backup -c 666 "$archive"
    allowed group:operator "written by backup" cat "$archive"
    refused backup cat "$archive"
    for secret in etc/shadow etc/ssl/private/server.key etc/ssh/ssh_host_rsa_key srv/git/.ssh/id_rsa srv/app/tls.key; do
        refused backup cat "$root/$secret"
    done
    refused backup ls "$root/etc/ssl/private"
    refused backup ls "$root/srv/git/.ssh"
    refused backup write -c 600 "$root/srv/www/new"
    refused backup write "$root/etc/fstab"
    refused backup write "$root/var/backups/passwd.bak"
    refused backup write -c 600 "$root/var/backups/daily-1.sh"
    refused group:operator cat "$root/var/backups/shadow.bak"
    refused group:operator write "$archive"
    refused daemon cat "$root/srv/www/index.html"
    stop_example
    if audited '"id":"backup-write"'; then ok; else bad "an archive was not recorded"; fi
    if audited '"id":"backup-read"'; then bad "log=refused recorded what was allowed"; else ok; fi
}

certificate_renewal() {
    live=$root/etc/letsencrypt/live archive=$root/etc/letsencrypt/archive
    web=$root/var/www/html
    put /etc/letsencrypt/live/old/fullchain.pem /etc/letsencrypt/live/old/privkey.pem /etc/letsencrypt/archive/new/cert1.pem \
        /etc/letsencrypt/accounts/a/b/private_key.json /var/www/html/.well-known/acme-challenge/readme /var/www/html/index.html
    mkdir "$live/new"
    chown -R proxy "$live" "$archive"
    ln -s ../../archive/new/cert1.pem "$live/new/cert.pem"
    serve_example || return
    allowed www-data "/etc/letsencrypt/accounts/a/b/private_key.json" cat "$root/etc/letsencrypt/accounts/a/b/private_key.json"
    stored www-data 644 www-data -c 666 "$web/.well-known/acme-challenge/token_1"
    stored www-data 644 www-data -c 666 "$archive/new/fullchain2.pem"
    stored www-data 600 proxy -c 666 "$archive/new/privkey2.pem"
    stored www-data 600 proxy "$live/old/privkey.pem"
    allowed www-data "fullchain.pem
privkey.pem" ls "$live/old"
    allowed www-data /etc/letsencrypt/archive/new/cert1.pem cat "$live/new/cert.pem"
    allowed mail "written by www-data" cat "$live/old/privkey.pem"
    refused www-data cat "$live/old/privkey.pem"
    refused www-data cat "$archive/new/privkey2.pem"
    refused www-data write "$root/etc/letsencrypt/accounts/a/b/private_key.json"
    refused www-data write -c 644 "$live/old/hook.sh"
    refused www-data write "$web/index.html"
    refused www-data write -c 644 "$web/.well-known/acme-challenge/.htaccess"
    refused mail write "$live/old/privkey.pem"
    refused daemon cat "$live/old/fullchain.pem"
    stop_example
    if audited '"id":"renew-key".*"as":"user:proxy"'; then ok; else bad "a new key was not recorded"; fi
}

ci_runner() {
    ci=$root/srv/ci
    put /srv/ci/src/app/main.c /srv/ci/src/app/.env /srv/ci/src/app/.git/config /srv/ci/src/app/.aws/credentials \
        /srv/ci/src/forks/f.c /srv/ci/artefacts/build-1/out/old /srv/ci/logs/daemon/0.log /srv/ci/logs/irc/0.log \
        /srv/ci/releases/a.deb
    serve_example || return
    allowed daemon /srv/ci/src/app/main.c cat "$ci/src/app/main.c"
    allowed daemon "app
forks" ls "$ci/src"
    stored daemon 644 daemon -a -c 666 "$ci/artefacts/build-1/out/app.tar.gz"
    stored daemon 640 daemon -a -c 666 "$ci/logs/daemon/1.log"
    stored irc 600 root -a "$ci/logs/irc/0.log"
    stored bin 444 bin -c 666 "$ci/releases/app.deb"
    allowed irc /srv/ci/src/forks/f.c cat "$ci/src/forks/f.c"
    allowed group:staff "written by daemon" cat "$ci/artefacts/build-1/out/app.tar.gz"
    allowed www-data "written by bin" cat "$ci/releases/app.deb"
    for secret in .env .git/config .aws/credentials; do
        refused daemon cat "$ci/src/app/$secret"
    done
    refused daemon write "$ci/src/app/main.c"
    refused daemon write "$ci/artefacts/build-1/out/old"
    refused daemon cat "$ci/artefacts/build-1/out/old"
    refused daemon write -a -c 644 "$ci/artefacts/elsewhere"
    refused daemon write -a "$ci/logs/irc/0.log"
    refused daemon write -a -c 644 "$ci/releases/app2.deb"
    refused irc cat "$ci/src/app/main.c"
    refused www-data cat "$ci/src/app/main.c"
    refused games cat "$ci/src/app/main.c"
    stop_example
    if audited '"id":"releases"'; then ok; else bad "a release was not recorded"; fi
    if audited '"id":"credentials"'; then ok; else bad "a refusal was not recorded"; fi
}

sandboxed_app() {
    mine=$root/srv/home/games/Documents theirs=$root/srv/home/www-data/Documents
    put /srv/home/games/Documents/letter /srv/home/games/Documents/.ssh/id /srv/home/games/Documents/a/vault.kdbx \
        "/srv/home/games/My Files/score" /srv/home/www-data/Documents/letter /srv/home/games/other \
        /usr/games/Documents/note /root/Documents/letter /srv/home/root/Documents/letter /usr/share/fonts/x.ttf
    chown -R games "$root/srv/home/games" "$root/usr/games"
    chown -R www-data "$root/srv/home/www-data"
    put /srv/home/games/Documents/of-root
    chmod 0644 "$theirs/letter" "$root/usr/share/fonts/x.ttf"
    serve_example || return
    allowed games /srv/home/games/Documents/letter cat "$mine/letter"
    allowed games score ls "$root/srv/home/games/My Files"
    allowed games /usr/games/Documents/note cat "$root/usr/games/Documents/note"
    allowed games /usr/share/fonts/x.ttf cat "$root/usr/share/fonts/x.ttf"
    allowed www-data /srv/home/www-data/Documents/letter cat "$theirs/letter"
    stored games 660 games -c 666 "$mine/a/new"
    stored games 600 games "$root/srv/home/games/My Files/score"
    refused games cat "$theirs/letter"
    refused games cat "$mine/.ssh/id"
    refused games cat "$mine/a/vault.kdbx"
    refused games cat "$root/srv/home/games/other"
    refused games write "$root/usr/share/fonts/x.ttf"
    refused games cat "$mine/of-root"
    refused root cat "$root/root/Documents/letter"
    refused root cat "$root/srv/home/root/Documents/letter"
    refused www-data cat "$root/usr/games/Documents/note"
    stop_example
    if audited '"id":"own-files".*"as":"caller"'; then ok; else bad "an opening was not recorded"; fi
    if audited '"id":"shared"'; then bad "log=none recorded something"; else ok; fi
}

for name in log-readers backup certificate-renewal ci-runner sandboxed-app; do
    check_example $name
    "$(echo $name | tr - _)"
    stop >/dev/null 2>&1
done
example=examples
for file in "$examples"/*.policy; do
    if [ -d "$tmp/$(basename "$file" .policy)" ]; then ok; else bad "$file is not tested"; fi
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
