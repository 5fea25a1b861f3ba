<?php
/*
 * Fob.php against a real, confined fobd and against a broker that lies. Run by php.sh, as an ordinary user.
 *
 * php_client.php real DIR        DIR/sock, DIR/stream and DIR/dgram are the broker's; php.sh made the files
 * php_client.php fake DIR        makes its own brokers in DIR
 * php_client.php places DIR      where a socket may be
 * php_client.php few DIR         with few descriptors
 * php_client.php elevated DIR    as root, who takes on another effective uid
 * php_client.php restart DIR     the broker is another one when a line comes
 * php_client.php refused PATH    PATH is served by somebody else
 * php_client.php place PATH WANT  of a socket: WANT is `good`, or an errno
 * php_client.php serve PATH      serves there, and says nothing
 */

declare(strict_types=1);

error_reporting(E_ALL);
ini_set('display_errors', 'stdout');
require __DIR__ . '/Fob.php';

use Fob\Broker;

const OPEN = 1, CHECK = 2, LIST_RULES = 3, HELLO = 4, REPLY = 0x8000, NO_FILE = 0xFFFFFFFF;
const KINDS = ['sock' => SOCK_SEQPACKET, 'stream' => SOCK_STREAM, 'dgram' => SOCK_DGRAM];

$passed = $failed = 0;
$place = '';

// ---- what the tests are made of ----

function expect(bool $condition, string $what = 'not so'): void
{
    global $passed, $failed;
    if ($condition) {
        $passed++;
        return;
    }
    $failed++;
    $at = debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS);
    while (in_array($at[1]['function'] ?? '', ['same', 'raises', 'untrusted'], true)) {
        array_shift($at);
    }
    echo "line {$at[0]['line']}: $what\n";
}

function same($got, $want): void
{
    expect($got === $want, json_encode($got) . ', not ' . json_encode($want));
}

/** Holds that the call throws exactly that. */
function raises(string $class, ?int $errno, ?string $path, callable $function): string
{
    try {
        $function();
    } catch (\Throwable $error) {
        $of = $error instanceof Fob\Exception ? [$error->getErrno(), $error->getPath()] : [null, null];
        expect(get_class($error) === $class && $of === [$errno, $path],
            get_class($error) . ' ' . json_encode($of) . ": {$error->getMessage()}: not $class " . json_encode([$errno, $path]));
        return $error->getMessage();
    }
    expect(false, "nothing was thrown, no $class");
    return '';
}

function at(string $name): string
{
    global $place;
    return "$place/$name";
}

function descriptors(): array
{
    $found = [];
    foreach (scandir('/proc/self/fd') as $fd) {
        $link = $fd[0] === '.' ? false : @readlink("/proc/self/fd/$fd");
        if ($link !== false) {
            $found[$fd] = $link;
        }
    }
    return $found;
}

/** Runs each; what one leaves open is a failure. */
function run(array $tests): void
{
    global $failed;
    foreach ($tests as $name => $test) {
        $before = descriptors();
        $then = $failed;
        try {
            $test();
        } catch (\Throwable $error) {
            $failed++;
            echo get_class($error), ': ', $error->getMessage(), ' at line ', $error->getLine(), "\n", $error->getTraceAsString(), "\n";
            unset($error);
        }
        $left = array_diff_key(descriptors(), $before);
        if ($left) {
            $failed++;
            echo 'left open: ', implode(' ', $left), "\n";
        }
        if ($failed !== $then) {
            echo "-- in $name\n";
        }
    }
}

/** The same with each type of socket. */
function each(array $kinds, array $tests): array
{
    $all = [];
    foreach ($tests as $name => $test) {
        foreach ($kinds as $kind) {
            $all["$name, $kind"] = static fn () => $test($kind);
        }
    }
    return $all;
}

/** Runs it in a child, and counts what it counts. */
function child(callable $function): void
{
    global $failed;
    $pid = pcntl_fork();
    if ($pid === 0) {
        $failed = 0;
        try {
            $function();
        } catch (\Throwable $error) {
            $failed++;
            echo get_class($error), ': ', $error->getMessage(), "\n";
        }
        posix_kill(getmypid(), $failed ? SIGTERM : SIGKILL); // as nothing of the parent's is to be undone
    }
    pcntl_waitpid($pid, $status);
    expect(pcntl_wtermsig($status) === SIGKILL, 'the child failed');
}

function broker(string $kind, ?float $timeout = 30.0): Broker
{
    switch ($kind) {
        case 'stream':
            return Broker::stream(at('stream'), $timeout);
        case 'dgram':
            return Broker::datagram(at('dgram'), $timeout);
    }
    return Broker::connect(at('sock'), $timeout);
}

function flags(string $fd): int
{
    preg_match('/^flags:\s+([0-7]+)/m', file_get_contents("/proc/self/fdinfo/$fd"), $found);
    return (int) octdec($found[1]);
}

// ---- a real broker ----

/** What comes of opening, reading, writing, and so on, as far as it goes. */
function outcome(callable $open): array
{
    $file = @$open();
    if (!$file) {
        return ['no file'];
    }
    $steps = [get_resource_type($file), ftell($file), @fgets($file), @fread($file, 3), @fwrite($file, 'new'), ftell($file)];
    $steps[] = fseek($file, 1);
    $steps[] = @fwrite($file, "X\n");
    $steps[] = fflush($file);
    $steps[] = rewind($file);
    $steps[] = @stream_get_contents($file);
    $steps[] = feof($file);
    $steps[] = @ftruncate($file, 5);
    $steps[] = flock($file, LOCK_EX | LOCK_NB);
    $steps[] = fstat($file)['size'];
    $meta = stream_get_meta_data($file);
    $steps[] = [$meta['seekable'], $meta['blocked'], $meta['timed_out'], $meta['stream_type']];
    $steps[] = fclose($file);
    return $steps;
}

function test_as_fopen(string $kind): void
{
    $broker = broker($kind);
    foreach (['r', 'r+', 'w', 'w+', 'a', 'a+', 'x', 'x+', 'c', 'c+', 'rb', 'wt', 'r+b', 'rb+', 'xe', 'rn'] as $mode) {
        foreach ([null, "first\nsecond\n"] as $before) {
            $got = [];
            foreach (['fopen', 'fob'] as $how) {
                $path = at("own/$kind.$how");
                @unlink($path);
                if ($before !== null) {
                    file_put_contents($path, $before);
                }
                $got[$how] = outcome(static function () use ($how, $path, $mode, $broker) {
                    try {
                        return $how === 'fopen' ? fopen($path, $mode) : $broker->open($path, $mode);
                    } catch (Fob\NotFoundException | Fob\ExistsException $error) {
                        return false;
                    }
                });
                clearstatcache();
                $got[$how][] = file_exists($path) ? [file_get_contents($path), fileperms($path), fileowner($path)] : null;
                @unlink($path);
            }
            same([$mode, $got['fob']], [$mode, $got['fopen']]);
        }
    }
    foreach (['', 'q', 'r w', 'R', '+r', "r\n", "r\0"] as $mode) {
        raises(InvalidArgumentException::class, null, null, static fn () => $broker->open(at('pub/a'), $mode));
    }
}

function test_questions(string $kind): void
{
    $broker = broker($kind);
    same($broker->hello(), ['version' => 1, 'maxMessage' => 65536, 'maxEntries' => 253, 'generation' => 1]);
    $lines = $broker->list();
    same($lines[0], 'read,list ' . at('pub/**'));
    expect(in_array('deny read,write,append,create,list,stat ' . at('pub/denied'), $lines, true), implode("\n", $lines));
    same([$broker->check(at('pub/a')), $broker->check(at('pub/none')), $broker->check(at('pub/a'), 'r+')], [true, true, false]);
    same([$broker->check(at('vault/log'), 'a'), $broker->check(at('vault/new'), 'x')], [true, false]);
    same([$broker->check(at('own/new'), 'x'), $broker->check('/etc/passwd')], [true, false]);
    expect(!file_exists(at('own/new')));
    raises(Fob\Exception::class, SOCKET_EINVAL, 'pub/a', static fn () => $broker->check('pub/a'));
}

function test_read(string $kind): void
{
    $broker = broker($kind);
    same(@fopen(at('pub/a'), 'r'), false); // the user alone may not
    $before = descriptors();
    $file = $broker->open(at('pub/a'));
    $new = array_keys(array_diff_key(descriptors(), $before));
    same([count($new), flags((string) $new[0]) & 02000000], [1, 02000000]); // O_CLOEXEC
    same([fgets($file), fgets($file), feof($file)], ["pub a\n", false, true]);
    rewind($file);
    same(stream_get_contents($file), "pub a\n");
    $copy = fopen('php://memory', 'w+');
    rewind($file);
    same(stream_copy_to_stream($file, $copy), 6);
}

function test_exceptions(string $kind): void
{
    $broker = broker($kind);
    $tries = [
        [Fob\RefusedException::class, SOCKET_EACCES, at('pub/denied'), 'r', 'Permission denied (refused by policy)'],
        [Fob\RefusedException::class, SOCKET_EACCES, '/etc/shadow', 'r', 'Permission denied (refused by policy)'],
        [Fob\RefusedException::class, SOCKET_EACCES, at('pub/a'), 'w', 'Permission denied (refused by policy)'],
        [Fob\NotFoundException::class, SOCKET_ENOENT, at('pub/none'), 'r', 'No such file or directory'],
        [Fob\ExistsException::class, SOCKET_EEXIST, at('own/there'), 'x', 'File exists'],
        [Fob\Exception::class, SOCKET_EISDIR, at('pub/sub'), 'r', 'Is a directory'],
        [Fob\Exception::class, SOCKET_EISDIR, at('own/dir'), 'w', 'Is a directory'],
        [Fob\Exception::class, SOCKET_ENOTDIR, at('pub/a/b'), 'r', 'Not a directory'],
        [Fob\Exception::class, SOCKET_EINVAL, at('pub/../pub/a'), 'r', 'Invalid argument'],
        [Fob\Exception::class, SOCKET_EINVAL, 'a', 'r', 'not an absolute path'],
        [Fob\Exception::class, SOCKET_EINVAL, '', 'r', 'not an absolute path'],
        [Fob\Exception::class, SOCKET_EINVAL, '/' . str_repeat('x', 4095), 'r', 'longer than the protocol takes'],
    ];
    foreach ($tries as [$class, $errno, $path, $mode, $why]) {
        $said = raises($class, $errno, $path, static fn () => $broker->open($path, $mode));
        same($said, "$path: $why");
    }
    $said = raises(Fob\Exception::class, SOCKET_EINVAL, "/a\0\e[2J\\", static fn () => $broker->open("/a\0\e[2J\\"));
    same($said, '/a\x00\x1b[2J\x5c: a NUL in it');
    $error = Fob\Exception::of(SOCKET_ENOENT, '/a');
    same([$error->getCode(), $error->getErrno(), $error instanceof RuntimeException], [SOCKET_ENOENT, SOCKET_ENOENT, true]);
}

function test_rights(string $kind): void
{
    $broker = broker($kind);
    $log = at('vault/log');
    same(fwrite($broker->open($log, 'a'), "one\n"), 4); // no right to create is needed
    same(fwrite($broker->open($log, 'a'), "two\n"), 4);
    raises(Fob\RefusedException::class, SOCKET_EACCES, $log, static fn () => $broker->open($log));
    raises(Fob\RefusedException::class, SOCKET_EACCES, at('vault/new'), static fn () => $broker->open(at('vault/new'), 'a'));
    same(fwrite($broker->open(at("drop/$kind"), 'a'), 'x'), 1); // creates, and appends
    raises(Fob\RefusedException::class, SOCKET_EACCES, at("drop/$kind"), static fn () => $broker->open(at("drop/$kind"), 'w'));
    umask(027);
    $broker->open(at("own/mode.$kind"), 'x');
    $broker->open(at("own/mode2.$kind"), 'w', 0640);
    umask(022);
    clearstatcache();
    same([fileperms(at("own/mode.$kind")) & 07777, fileperms(at("own/mode2.$kind")) & 07777], [0640, 0640]);
    unlink(at("own/mode.$kind"));
    unlink(at("own/mode2.$kind"));
}

function test_many(string $kind): void
{
    $broker = broker($kind);
    $results = $broker->openMany([
        'a' => at('pub/a'),
        'none' => at('pub/none'),
        7 => [at("own/many.$kind"), 'w'],
        'wrong' => 'relative',
        'denied' => at('pub/denied'),
        'there' => [at('own/there')],
    ]);
    same(array_keys($results), ['a', 'none', 7, 'wrong', 'denied', 'there']);
    same(fgets($results['a']), "pub a\n");
    same([get_class($results['none']), get_class($results['wrong']), get_class($results['denied'])],
        [Fob\NotFoundException::class, Fob\Exception::class, Fob\RefusedException::class]);
    same([fwrite($results[7], 'seven'), file_get_contents(at("own/many.$kind"))], [5, 'seven']);
    same(fgets($results['there']), "there\n");
    unlink(at("own/many.$kind"));
    same($broker->openMany([]), []);
    unset($results);

    $broker->openMany([at('own/m1'), at('own/m2'), at('own/there')], 'a');
    expect(file_exists(at('own/m1')) && file_exists(at('own/m2')));
    unlink(at('own/m1'));
    unlink(at('own/m2'));

    $paths = [];
    for ($i = 0; $i < 600; $i++) {
        $paths[] = at("many/$i");
    }
    $wrong = 0;
    foreach (array_chunk($paths, $kind === 'dgram' ? 40 : 600, true) as $some) { // few descriptors go to whom has connected
        foreach ($broker->openMany($some) as $i => $file) {
            $wrong += (int) (!is_resource($file) || fgets($file) !== "$i\n");
        }
    }
    same($wrong, 0);

    $long = '/' . str_repeat('x', 4000); // not by number, but by size
    $results = $broker->openMany(array_fill(0, 40, $long) + [40 => at('pub/a')]);
    same([count($results), get_class($results[39]), fgets($results[40])], [41, Fob\RefusedException::class, "pub a\n"]);
    raises(InvalidArgumentException::class, null, null, static fn () => $broker->openMany([at('pub/a'), [at('pub/a'), 'q']]));
}

function test_no_leak(string $kind): void
{
    $broker = broker($kind);
    $broker->open(at('pub/a'));
    $before = count(descriptors());
    for ($i = 0; $i < 1000; $i++) {
        $file = $broker->open(at('pub/a'));
        if ($i % 10 === 0) {
            try {
                $broker->open(at($i % 20 ? 'pub/sub' : 'pub/none'));
            } catch (Fob\Exception $error) {
                unset($error);
            }
            $broker->openMany([at('pub/a'), at('pub/none'), at('own/there')]);
        }
    }
    unset($file);
    same(count(descriptors()), $before);
}

function test_fork(string $kind): void
{
    $broker = broker($kind);
    $file = $broker->open(at('pub/a'));
    child(static function () use ($broker, $file) {
        same(fgets($broker->open(at('pub/a'))), "pub a\n");
        same($broker->hello()['version'], 1);
        same(fgets($file), "pub a\n");
    });
    same(fgets($broker->open(at('pub/a'))), "pub a\n");
    same(ftell($file) === 0 && fgets($file) === false, true); // shared with the child, which has read it
}

function test_commands(string $kind): void
{
    $before = descriptors();
    $broker = broker($kind);
    $file = $broker->open(at('pub/a'));
    $new = array_diff_key(descriptors(), $before);
    same(count($new), 2); // the connection and the file
    exec('readlink /proc/self/fd/*', $links);
    same(array_values(array_intersect($new, $links)), []);
    $process = proc_open(['cat'], [0 => $file, 1 => ['pipe', 'w']], $pipes);
    same(stream_get_contents($pipes[1]), "pub a\n");
    fclose($pipes[1]);
    same(proc_close($process), 0);
}

function test_close(string $kind): void
{
    $broker = broker($kind);
    $file = $broker->open(at('pub/a'));
    $broker->close();
    $broker->close();
    same(fgets($file), "pub a\n");
    raises(LogicException::class, null, null, static fn () => $broker->open(at('pub/a')));
    try {
        clone $broker;
        expect(false, 'cloned');
    } catch (Error $error) {
        expect(true);
    }
}

function test_environment(): void
{
    putenv('FOB_SOCKET=' . at('sock'));
    same(Broker::connect()->hello()['version'], 1);
    putenv('FOB_SOCKET=' . at('nobody'));
    raises(Fob\ConnectionException::class, SOCKET_ENOENT, at('nobody'), static fn () => Broker::connect());
    putenv('FOB_SOCKET');
    same(Broker::connect(at('stream'))->hello()['version'], 1); // of another type
    raises(Fob\ConnectionException::class, SOCKET_EPROTOTYPE, at('sock'), static fn () => Broker::stream(at('sock')));
}

// ---- few descriptors ----

function test_few(string $kind): void
{
    $broker = broker($kind);
    $paths = array_map(static fn (int $i): string => at("many/$i"), range(0, 49));
    $results = $broker->openMany($paths);
    $errnos = array_map(static fn ($result) => $result instanceof Fob\Exception ? $result->getErrno() : 0, $results);
    same(array_values(array_unique($errnos)), [SOCKET_EMFILE]); // none of a message that lost some
    same($results[3]->getPath(), at('many/3'));
    unset($results);
    same(fgets($broker->open(at('many/7'))), "7\n"); // and it goes on
    $held = [];
    while (count($held) < 100) {
        try {
            $held[] = $broker->open(at('pub/a'));
        } catch (Fob\Exception $error) {
            break;
        }
    }
    same($error->getErrno(), SOCKET_EMFILE);
    raises(Fob\ConnectionException::class, SOCKET_EMFILE, at($kind), static fn () => broker($kind));
    unset($held, $error);
    same(fgets($broker->open(at('many/7'))), "7\n");
}

// ---- a broker that lies ----

function server(string $kind)
{
    $path = at($kind);
    @unlink($path);
    $socket = socket_create(AF_UNIX, KINDS[$kind], 0);
    socket_bind($socket, $path);
    socket_listen($socket, 16);
    return $socket;
}

/*
 * PHP can ask by datagrams, but not answer: it does not understand the name that the kernel chose for who asked.
 * So the lies go through this. `FORGE` and an id: an answer from a socket that is not the broker's is tried, and the
 * broker's own says what became of that: EEXIST (the kernel refused it) or EIO.
 */
const RELAY = <<<'PYTHON'
import array, os, select, socket, struct, sys

def send(sock, data, fds, name):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    sock.sendmsg([data], rights, 0, name)

place, upstream = sys.argv[1:]
asked = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
asked.bind(place)
print('ready', flush=True)
answers, asker = None, None
while True:
    ready, _, _ = select.select([asked] + ([answers] if answers else []), [], [])
    if answers in ready:
        data, fds, _, _ = socket.recv_fds(answers, 65536, 253)
        if data[:5] == b'FORGE':
            result = 17
            other = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                send(other, b'FOB1' + struct.pack('=IHHI', 32, 0x8001, 1, int(data[5:])) + bytes(16), [0], asker)
                result = 5
            except PermissionError:
                pass
            data = b'FOB1' + struct.pack('=IHHIiIII', 32, 0x8001, 1, int(data[5:]), result, 0, 0xFFFFFFFF, 0)
        if not data:
            answers.close()
            answers = None
        else:
            try:
                send(asked, data, fds, asker)
            except OSError:
                pass  # who asked has gone
        for fd in fds:
            os.close(fd)
    if asked in ready:
        data, asker = asked.recvfrom(65536)
        if not answers:
            answers = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            answers.connect(upstream)
        answers.send(data)
PYTHON;

function relay(string $upstream)
{
    $process = proc_open([getenv('FOB_PYTHON'), '-c', RELAY, at('dgram'), at($upstream)], [1 => ['pipe', 'w']], $pipes);
    same(fgets($pipes[1]), "ready\n");
    return [$process, $pipes[1]];
}

function message(int $type, int $count, int $id, string $body): string
{
    return 'FOB1' . pack('LSSL', 16 + strlen($body), $type, $count, $id) . $body;
}

function result(int $error, int $index, int $zero = 0): string
{
    return pack('lLLL', $error, 0, $index, $zero);
}

/** '': the end. */
function request($socket): string
{
    $request = '';
    return @socket_recv($socket, $request, 65536, 0) ? $request : '';
}

function reply($socket, string $bytes, array $files = []): void
{
    $message = ['iov' => [$bytes]];
    if ($files) {
        $message['control'] = [['level' => SOL_SOCKET, 'type' => SCM_RIGHTS, 'data' => $files]];
    }
    @socket_sendmsg($socket, $message, MSG_NOSIGNAL); // who asks may have gone
}

/**
 * Runs $client against a broker of our own, which answers the i-th request by answers[i]: fn($socket, $id), which
 * says 'end' to end the connection; the last one answers all that follow.
 */
function against(string $kind, array $answers, callable $client): void
{
    $connected = $kind === 'dgram' ? 'sock' : $kind;
    $listener = server($connected);
    $pid = pcntl_fork();
    if ($pid === 0) {
        $connection = null;
        for (;;) {
            $connection = $connection ?? socket_accept($listener);
            $request = request($connection);
            if ($request === '') {
                $connection = null;
                continue;
            }
            $answer = count($answers) > 1 ? array_shift($answers) : reset($answers);
            if ($answer($connection, unpack('L', $request, 12)[1]) === 'end') {
                socket_close($connection);
                $connection = null;
            }
        }
    }
    socket_close($listener);
    [$relay, $said] = $kind === 'dgram' ? relay($connected) : [null, null];
    try {
        $client();
    } finally {
        posix_kill($pid, SIGKILL);
        pcntl_waitpid($pid, $status);
        if ($relay) {
            proc_terminate($relay, SIGKILL);
            fclose($said);
            proc_close($relay);
        }
        @unlink(at($kind));
        @unlink(at($connected));
    }
}

function answer_open($socket, int $id): void
{
    reply($socket, message(OPEN | REPLY, 1, $id, result(0, 0)), [fopen('/dev/null', 'r')]);
}

function test_lies(string $kind): void
{
    $null = fopen('/dev/null', 'r');
    $socket = socket_create(AF_UNIX, SOCK_STREAM, 0);
    $as_file = socket_export_stream($socket);
    $ok = result(0, 0);
    $lies = [
        'another magic' => [static fn (int $id) => 'FOB2' . substr(message(OPEN | REPLY, 1, $id, $ok), 4), [$null]],
        'no magic' => [static fn () => str_repeat('x', 32), []],
        'length 0' => [static fn (int $id) => 'FOB1' . pack('LSSL', 0, OPEN | REPLY, 1, $id), [$null]],
        'length 4 GB' => [static fn (int $id) => 'FOB1' . pack('LSSL', 0xFFFFFFFF, OPEN | REPLY, 1, $id), [$null]],
        'no reply' => [static fn (int $id) => message(OPEN, 1, $id, $ok), [$null]],
        'another type' => [static fn (int $id) => message(CHECK | REPLY, 1, $id, $ok), [$null]],
        'count 0' => [static fn (int $id) => message(OPEN | REPLY, 0, $id, $ok), [$null]],
        'count 2' => [static fn (int $id) => message(OPEN | REPLY, 2, $id, $ok . result(0, 1)), [$null, $null]],
        'no result' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, ''), [$null]],
        'half a result' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, str_repeat("\0", 8)), [$null]],
        'no descriptor' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, $ok), []],
        'index 1' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(0, 1)), [$null]],
        'index none' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(0, NO_FILE)), []],
        'too many' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, $ok), [$null, $null, $null]],
        'an error with a file' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(13, 0)), [$null]],
        'an error and a file' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(13, NO_FILE)), [$null]],
        'a negative error' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(-13, NO_FILE)), []],
        'not zero' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, result(0, 0, 1)), [$null]],
        'a socket' => [static fn (int $id) => message(OPEN | REPLY, 1, $id, $ok), [$as_file]],
    ];
    if ($kind !== 'dgram') { // there it is late, not false
        $lies['another id'] = [static fn (int $id) => message(OPEN | REPLY, 1, $id + 1, $ok), [$null]];
    }
    if ($kind !== 'stream') { // there it is the next message
        $lies['more'] = [static fn (int $id) => message(OPEN | REPLY, 1, $id, $ok) . 'x', [$null]];
        $lies['less'] = [static fn (int $id) => substr(message(OPEN | REPLY, 1, $id, $ok), 0, -1), [$null]];
        $lies['a byte'] = [static fn () => 'F', [$null]];
    }
    foreach ($lies as $name => [$lie, $files]) {
        $answers = [static fn ($socket, int $id) => reply($socket, $lie($id), $files), 'answer_open'];
        against($kind, $answers, static function () use ($kind, $name) {
            global $failed;
            $then = $failed;
            $broker = broker($kind, 5.0);
            $before = count(descriptors());
            raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, static fn () => $broker->open('/a', 'a'));
            same(count(descriptors()), $before - 1); // the connection
            same(fgets($broker->open('/a')), false); // the next one is another's
            if ($failed !== $then) {
                echo "-- $name\n";
            }
        });
    }
    fclose($as_file);
}

function test_false_answers(string $kind): void
{
    $answer = static function (int $type, string $body, array $files = []): array {
        $count = $type === CHECK ? 1 : 0;
        return [static fn ($socket, int $id) => reply($socket, message($type | REPLY, $count, $id, $body), $files)];
    };
    $lines = "read /a\n# 3 more\n";
    against($kind, $answer(HELLO, 'short'), static function () use ($kind) {
        raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, [broker($kind), 'hello']);
    });
    against($kind, $answer(LIST_RULES, $lines, [fopen('/dev/null', 'r')]), static function () use ($kind) {
        raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, [broker($kind), 'list']);
    });
    against($kind, $answer(LIST_RULES, $lines), static fn () => same(broker($kind)->list(), ['read /a', '# 3 more']));
    if ($kind !== 'stream') { // there it is the next message
        $more = [static fn ($socket, int $id) => reply($socket, message(LIST_RULES | REPLY, 0, $id, $lines) . 'x')];
        against($kind, $more, static function () use ($kind) {
            raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, [broker($kind), 'list']);
        });
    }
    if ($kind === 'sock') {
        $long = message(LIST_RULES | REPLY, 0, 1, str_repeat('x', 65520)) . 'x'; // which is cut
        against($kind, [static fn ($socket) => reply($socket, $long)], static function () use ($kind) {
            raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, [broker($kind), 'list']);
        });
    }
    against($kind, $answer(LIST_RULES, ''), static fn () => same(broker($kind)->list(), []));
    against($kind, $answer(CHECK, result(0, 0), [fopen('/dev/null', 'r')]), static function () use ($kind) {
        raises(Fob\ProtocolException::class, SOCKET_EPROTO, null, static fn () => broker($kind)->check('/a'));
    });
    against($kind, $answer(CHECK, result(SOCKET_EAGAIN, NO_FILE)), static function () use ($kind) {
        raises(Fob\BusyException::class, SOCKET_EAGAIN, '/a', static fn () => broker($kind)->check('/a'));
    });
}

function test_pieces(): void
{
    $answers = [static function ($socket, int $id) {
        $bytes = message(OPEN | REPLY, 1, $id, result(0, 0));
        reply($socket, $bytes[0], [fopen('/dev/null', 'r')]);
        for ($i = 1; $i < strlen($bytes); $i++) {
            usleep(500);
            reply($socket, $bytes[$i]);
        }
    }];
    against('stream', $answers, static function () {
        $broker = broker('stream');
        same([fgets($broker->open('/a')), fgets($broker->open('/a'))], [false, false]);
    });
    $cut = [static function ($socket, int $id): string {
        reply($socket, substr(message(OPEN | REPLY, 1, $id, result(0, 0)), 0, 20), [fopen('/dev/null', 'r')]);
        return 'end';
    }, 'answer_open'];
    against('stream', $cut, static function () {
        raises(Fob\ConnectionException::class, SOCKET_ECONNRESET, at('stream'), static fn () => broker('stream')->open('/a', 'w'));
    });
    $slow = [static function ($socket, int $id) { // which always comes, and never ends
        reply($socket, 'FOB1' . pack('LSSL', 65536, LIST_RULES | REPLY, 0, $id));
        for ($i = 0; $i < 100; $i++) {
            usleep(50000);
            reply($socket, 'x');
        }
    }];
    against('stream', $slow, static function () {
        $began = hrtime(true);
        raises(Fob\TimeoutException::class, SOCKET_ETIMEDOUT, at('stream'), [broker('stream', 0.3), 'list']);
        expect(hrtime(true) - $began < 2e9, 'not in time');
    });
}

function test_broken(string $kind): void
{
    $end = static fn (): string => 'end';
    against($kind, [$end, 'answer_open'], static fn () => same(fgets(broker($kind)->open('/a')), false));
    against($kind, [$end, 'answer_open'], static function () use ($kind) {
        raises(Fob\ConnectionException::class, SOCKET_ECONNRESET, at($kind), static fn () => broker($kind)->open('/a', 'a'));
    });
    against($kind, [$end], static function () use ($kind) {
        $broker = broker($kind);
        raises(Fob\ConnectionException::class, SOCKET_ECONNRESET, at($kind), static fn () => $broker->openMany(['/a', '/b']));
    });
    against($kind, [$end], static function () use ($kind) {
        $broker = broker($kind);
        unlink(at($kind));
        $began = hrtime(true);
        raises(Fob\ConnectionException::class, SOCKET_ENOENT, at($kind), static fn () => $broker->check('/a'));
        expect(hrtime(true) - $began > 7e7, 'it did not wait for another one');
    });
}

function test_silence(string $kind): void
{
    $silence = static function (): void {
    };
    against($kind, [$silence, 'answer_open'], static function () use ($kind) {
        $broker = broker($kind, 0.2);
        $began = hrtime(true);
        raises(Fob\TimeoutException::class, SOCKET_ETIMEDOUT, at($kind), static fn () => $broker->open('/a'));
        expect(hrtime(true) - $began > 1.5e8 && hrtime(true) - $began < 2e9, 'not in time');
        same(fgets($broker->open('/a')), false); // on another connection
    });
    foreach ([0.0, -1.0, NAN, INF] as $timeout) {
        raises(InvalidArgumentException::class, null, null, static fn () => broker($kind, $timeout));
    }
}

function test_signals(string $kind): void
{
    $late = static function ($socket, int $id): void {
        usleep(300000);
        answer_open($socket, $id);
    };
    pcntl_async_signals(true);
    foreach ([30.0, null] as $timeout) {
        against($kind, [$late], static function () use ($kind, $timeout) {
            $signals = 0;
            pcntl_signal(SIGUSR1, static function () use (&$signals) {
                $signals++;
            }, false);
            $me = getmypid();
            $broker = broker($kind, $timeout);
            $pid = pcntl_fork();
            if ($pid === 0) {
                for ($i = 0; $i < 10; $i++) {
                    usleep(20000);
                    posix_kill($me, SIGUSR1);
                }
                posix_kill(getmypid(), SIGKILL);
            }
            same(fgets($broker->open('/a', 'a')), false);
            expect($signals >= 1, 'no signal came');
            while (pcntl_waitpid($pid, $status) !== $pid) {
                continue;
            }
        });
    }
    against($kind, [$late, 'answer_open'], static function () use ($kind) {
        $me = getmypid();
        pcntl_signal(SIGUSR1, static function () {
            throw new DomainException('from a signal');
        }, false);
        $broker = broker($kind);
        $pid = pcntl_fork();
        if ($pid === 0) {
            usleep(100000);
            posix_kill($me, SIGUSR1);
            posix_kill(getmypid(), SIGKILL);
        }
        raises(DomainException::class, null, null, static fn () => $broker->open('/a'));
        pcntl_waitpid($pid, $status);
        same(fgets($broker->open('/a')), false); // and not the late answer
    });
    pcntl_signal(SIGUSR1, SIG_DFL);
    pcntl_async_signals(false);
}

function test_datagrams_of_others(): void
{
    $late = static function ($socket, int $id): void {
        reply($socket, message(OPEN | REPLY, 1, $id - 1, result(0, 0)), [fopen('/dev/null', 'r')]); // late
        reply($socket, message(HELLO | REPLY, 0, $id + 7, ''));
        reply($socket, message(OPEN | REPLY, 1, $id, result(SOCKET_EEXIST, NO_FILE)));
    };
    against('dgram', [$late], static function () {
        raises(Fob\ExistsException::class, SOCKET_EEXIST, '/a', static fn () => broker('dgram')->open('/a'));
    });
    $forged = static fn ($socket, int $id) => reply($socket, "FORGE$id");
    against('dgram', [$forged], static function () {
        raises(Fob\ExistsException::class, SOCKET_EEXIST, '/a', static fn () => broker('dgram')->open('/a'));
    });
}

// ---- where a socket may be ----

function untrusted(int $errno, string $path): void
{
    raises(Fob\ConnectionException::class, $errno, $path, static fn () => Broker::connect($path));
}

function test_places(): void
{
    untrusted(SOCKET_ENOENT, at('none'));
    untrusted(SOCKET_ENOENT, at('none/sock'));
    file_put_contents(at('file'), '');
    untrusted(SOCKET_ECONNREFUSED, at('file'));
    untrusted(SOCKET_ENAMETOOLONG, '/' . str_repeat('x', 107));
    untrusted(SOCKET_EREMOTE, '@fob');
    foreach (['', "/tmp/a\0b"] as $path) {
        raises(InvalidArgumentException::class, null, null, static fn () => Broker::connect($path));
    }
    socket_close(server('sock'));
    untrusted(SOCKET_ECONNREFUSED, at('sock')); // nobody listens

    foreach ([0777 => false, 0775 => false, 01777 => true, 0755 => true] as $mode => $good) {
        @mkdir(at('place'));
        chmod(at('place'), $mode);
        $listener = server('sock');
        rename(at('sock'), at('place/sock'));
        symlink(at('place/sock'), at('link'));
        foreach (['place/sock', 'link', 'place/../place/sock'] as $name) {
            if ($good) {
                Broker::connect(at($name))->close();
                expect(true);
            } else {
                untrusted(SOCKET_EPERM, at($name));
            }
        }
        socket_close($listener);
        unlink(at('place/sock'));
        unlink(at('link'));
        rmdir(at('place'));
    }
}

function test_open_basedir(): void
{
    $listener = server('sock');
    ini_set('open_basedir', at(''));
    untrusted(SOCKET_EPERM, at('sock'));
    untrusted(SOCKET_ENOENT, at('none'));
    socket_close($listener);
}

/** The broker is another one when a line comes. */
function test_restart(): void
{
    $brokers = [];
    foreach (array_keys(KINDS) as $kind) {
        $brokers[$kind] = broker($kind);
        same(fgets($brokers[$kind]->open(at('pub/a'))), "pub a\n");
    }
    echo "ready\n";
    fgets(STDIN);
    foreach ($brokers as $broker) {
        same(fgets($broker->open(at('pub/a'))), "pub a\n");
    }
}

function test_refused(): void
{
    global $place;
    untrusted(SOCKET_EPERM, $place);
    putenv('FOB_SERVER=' . fileowner($place));
    raises(Fob\TimeoutException::class, SOCKET_ETIMEDOUT, $place, static fn () => Broker::connect($place, 0.2)->hello());
    putenv('FOB_SERVER=1');
    untrusted(SOCKET_EPERM, $place);
    putenv('FOB_SERVER');
}

function test_elevated(string $kind): void
{
    posix_setegid(2001);
    posix_seteuid(2001);
    putenv('FOB_SOCKET=' . at('sock'));
    raises(Fob\ConnectionException::class, SOCKET_ENOENT, Broker::DEFAULT_SOCKET, static fn () => Broker::connect());
    putenv('FOB_SOCKET');
    $broker = broker($kind);
    same(fgets($broker->open(at('pub/a'))), "pub a\n");
    same($broker->check(at('secret/f')), false);
    posix_seteuid(0);
    posix_setegid(0);
    same(broker($kind)->check(at('secret/f')), true);
}

function test_place(string $path, string $want): void
{
    if ($want === 'good') {
        same(Broker::connect($path)->hello()['version'], 1);
    } else {
        untrusted(constant("SOCKET_$want"), $path);
    }
}

function serve(string $path): void
{
    global $place;
    $place = dirname($path);
    $listener = server(basename($path));
    chmod($path, 0777);
    echo "ready\n";
    $held = [];
    for (;;) {
        $held[] = socket_accept($listener);
    }
}

$place = $argv[2];
$every = ['sock', 'stream', 'dgram'];
$connected = ['sock', 'stream'];
switch ($argv[1]) {
    case 'real':
        run(each($every, [
            'questions' => 'test_questions', 'read' => 'test_read', 'exceptions' => 'test_exceptions',
            'rights' => 'test_rights', 'many' => 'test_many', 'as fopen' => 'test_as_fopen',
            'no leak' => 'test_no_leak', 'fork' => 'test_fork', 'commands' => 'test_commands', 'close' => 'test_close',
        ]) + ['environment' => 'test_environment']);
        break;
    case 'few':
        run(each($every, ['few' => 'test_few']));
        break;
    case 'fake':
        $relay = (bool) getenv('FOB_PYTHON');
        run(each($relay ? $every : $connected, [
            'lies' => 'test_lies', 'false answers' => 'test_false_answers', 'silence' => 'test_silence',
            'signals' => 'test_signals',
        ]));
        run(each($connected, ['broken' => 'test_broken']) + ['pieces' => 'test_pieces']);
        run($relay ? ['datagrams of others' => 'test_datagrams_of_others'] : []);
        break;
    case 'places':
        run(['places' => 'test_places']);
        test_open_basedir();
        break;
    case 'refused':
        run(['refused' => 'test_refused']);
        break;
    case 'restart':
        test_restart();
        break;
    case 'elevated':
        run(each($every, ['elevated' => 'test_elevated']));
        break;
    case 'place':
        test_place($argv[2], $argv[3]);
        break;
    case 'serve':
        serve($place);
}
echo "$passed passed, $failed failed\n";
exit($failed ? 1 : 0);
