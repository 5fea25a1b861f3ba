<?php
/**
 * Files from the file-open broker fobd, as ordinary streams.
 *
 *     require 'Fob.php';
 *
 *     $broker = Fob\Broker::connect();
 *     echo fgets($broker->open('/var/log/syslog'));
 *     fputcsv($broker->open('/srv/reports/today.csv', 'a'), ['17', '4']);
 *     foreach ($broker->openMany(['/etc/hosts', '/etc/shadow']) as $file)
 *         echo $file instanceof Fob\Exception ? $file->getMessage() : fread($file, 100), "\n";
 *
 * A path is absolute and clean (no '.', '..' or '//'). Modes are those of fopen(). What fails is a
 * Fob\Exception, with getErrno() and getPath():
 *
 *     RefusedException      EACCES: the policy refuses. EPERM: a check of the file, or of who asks, refuses
 *     NotFoundException     ENOENT
 *     ExistsException       EEXIST
 *     BusyException         EAGAIN: over a quota, or the file is leased: try later
 *     TimeoutException      ETIMEDOUT: the file system did not answer in time; or, with the path of the
 *                           socket, the broker did not: what became of the request is not known
 *     ConnectionException   there is no broker, or not one to believe; or the connection broke after the
 *                           request was sent (ECONNRESET): what became of it is not known
 *     ProtocolException     EPROTO: the other side does not speak the protocol
 *     Exception itself      all else that the kernel says; EMFILE: the descriptors did not fit into this
 *                           process
 *
 * A mode or an argument that is none is an \InvalidArgumentException. A connection that broke is made anew; a
 * request that had been sent is repeated only if it can change nothing. After pcntl_fork() the child makes a
 * connection of its own at its first request; streams that were open are shared with the parent, as they
 * always are.
 *
 * What is different from fopen(), and what PHP cannot do:
 *
 * - The descriptor is closed on exec: no command inherits it unless it is handed on (proc_open() can). No
 *   command inherits the connection.
 * - stream_get_meta_data() has no `uri`, its `mode` is always `rw`, and stream_is_local() says no. What may
 *   be read and written the kernel decides: fwrite() on what was opened with 'r' fails as it does with
 *   fopen().
 * - PHP is not told the number of the descriptor. What takes a file name and no stream (SQLite3, include,
 *   DirectoryIterator) cannot use it. Nor can a directory be read: it is refused with EISDIR.
 * - A connection lasts as long as its object, at most as long as the request: PHP keeps none for the next
 *   one.
 * - PHP cannot ask the kernel for the uid of who serves (SO_PEERCRED gives it a pid, which proves nothing).
 *   So the place of the socket must vouch for it: it must belong to root or the caller, and nobody else may
 *   be able to replace it, or a directory on the way to it; else there is a ConnectionException with EPERM.
 *   This is stricter than libfob(3), and an abstract name ('@...') is refused. $FOB_SERVER names one more uid
 *   to believe.
 * - In a user namespace (a sandbox) others have no name. There a socket of such a one is believed if it is a
 *   default one, or was bound into the sandbox by itself; else the error is EREMOTE.
 * - With open_basedir PHP cannot look where a socket is: then the default ones alone are believed.
 *
 * The broker's socket is $FOB_SOCKET, else /run/fob/fob.sock; of type SOCK_SEQPACKET or SOCK_STREAM.
 * fob-languages(7) says more, fob-protocol(7) has the protocol. Needs PHP 7.4 and ext-sockets. With ext-posix
 * a process whose effective ids differ from its real ones asks with the effective ones.
 */

declare(strict_types=1);

namespace Fob;

if (!extension_loaded('sockets')) {
    throw new \LogicException('Fob needs ext-sockets');
}

class Exception extends \RuntimeException
{
    private int $errno;
    private ?string $path;

    public function __construct(int $errno, ?string $path = null, ?string $why = null)
    {
        $this->errno = $errno;
        $this->path = $path;
        $of = $path === null ? '' : self::escape($path) . ': ';
        parent::__construct($of . ($why ?? socket_strerror($errno)), $errno);
    }

    /** @internal */
    public static function escape(string $bytes): string
    {
        $hex = static fn (array $found): string => sprintf('\x%02x', ord($found[0]));
        return preg_replace_callback('/[\x00-\x1f\x7f\\\\]/', $hex, $bytes);
    }

    public function getErrno(): int
    {
        return $this->errno;
    }

    public function getPath(): ?string
    {
        return $this->path;
    }

    /** What came of a request, as the class that it has. */
    public static function of(int $errno, ?string $path): self
    {
        switch ($errno) {
            case SOCKET_EACCES:
                return new RefusedException($errno, $path, socket_strerror($errno) . ' (refused by policy)');
            case SOCKET_EPERM:
                return new RefusedException($errno, $path);
            case SOCKET_ENOENT:
                return new NotFoundException($errno, $path);
            case SOCKET_EEXIST:
                return new ExistsException($errno, $path);
            case SOCKET_EAGAIN:
                return new BusyException($errno, $path);
            case SOCKET_ETIMEDOUT:
                return new TimeoutException($errno, $path);
        }
        return new self($errno, $path);
    }
}

class RefusedException extends Exception
{
}

class NotFoundException extends Exception
{
}

class ExistsException extends Exception
{
}

class BusyException extends Exception
{
}

class TimeoutException extends Exception
{
}

class ConnectionException extends Exception
{
}

class ProtocolException extends Exception
{
    public function __construct(string $what)
    {
        parent::__construct(SOCKET_EPROTO, null, 'not the protocol of fobd: ' . $what);
    }
}

/** A connection to fobd, or a socket for datagrams. Made by connect(), stream() or datagram(). */
final class Broker
{
    public const DEFAULT_SOCKET = '/run/fob/fob.sock';
    public const DEFAULT_STREAM = '/run/fob/stream.sock';
    public const DEFAULT_DATAGRAM = '/run/fob/dgram.sock';

    private const OPEN = 1, CHECK = 2, LIST_RULES = 3, HELLO = 4;
    private const READ = 0x001, WRITE = 0x002, APPEND = 0x004, CREATE = 0x008, EXCLUSIVE = 0x010;
    private const TRUNCATE = 0x020, NONBLOCK = 0x200;
    private const MODES = [
        'r' => self::READ,
        'w' => self::WRITE | self::CREATE | self::TRUNCATE,
        'a' => self::APPEND | self::CREATE, // WRITE would need a right more
        'x' => self::WRITE | self::CREATE | self::EXCLUSIVE,
        'c' => self::WRITE | self::CREATE,
    ];
    private const MAX_ENTRIES = 253, MAX_PATH = 4095, NO_FILE = 0xFFFFFFFF, RESULT_SIZE = 16;

    private Connection $connection;

    private function __construct(string $path, array $types, ?float $timeout)
    {
        $this->connection = new Connection($path, $types, $timeout);
    }

    private function __clone()
    {
    }

    /**
     * Connects, at once. $path is the broker's socket; null: $FOB_SOCKET, else DEFAULT_SOCKET. $timeout: so
     * many seconds a request may take, null: any time. (The broker by itself answers ETIMEDOUT for a file
     * system that does not answer: fobd.conf(5), open-timeout.)
     */
    public static function connect(?string $path = null, ?float $timeout = 30.0): self
    {
        $path = $path ?? (Place::environment('FOB_SOCKET') ?: self::DEFAULT_SOCKET);
        return new self($path, [SOCK_SEQPACKET, SOCK_STREAM], $timeout);
    }

    /** The same, by a stream: fobd.conf(5), stream-socket. */
    public static function stream(string $path = self::DEFAULT_STREAM, ?float $timeout = 30.0): self
    {
        return new self($path, [SOCK_STREAM], $timeout);
    }

    /**
     * The same, by datagrams: fobd.conf(5), dgram-socket. The kernel chooses the name of this socket, and
     * lets the broker alone answer to it. An answer may be lost (TimeoutException), and descriptors may be
     * withheld (BusyException) more often: where there is a choice, connect().
     */
    public static function datagram(string $path = self::DEFAULT_DATAGRAM, ?float $timeout = 30.0): self
    {
        return new self($path, [SOCK_DGRAM], $timeout);
    }

    /** Closes the connection; a request after that is a \LogicException. Streams that were got stay open. */
    public function close(): void
    {
        $this->connection->close();
    }

    // ---- files ----

    /**
     * fopen(), through the broker: a stream. $mode is one of r, r+, w, w+, a, a+, x, x+, c, c+; n in it is
     * O_NONBLOCK; b, t and e mean nothing. 'w', 'a' and 'c' need the right to create only if there is no such
     * file yet: they ask without it, and again if there is none. 'a' needs the right to append, all else that
     * writes the right to write. $permissions, less the umask and less what the policy takes, are those of a
     * file that is created.
     *
     * @return resource
     */
    public function open(string $path, string $mode = 'r', int $permissions = 0666)
    {
        $result = $this->openAll([[$path, self::flagsOf($mode), $permissions]])[0];
        if ($result instanceof Exception) {
            throw $result;
        }
        return $result;
    }

    /**
     * Any number of files in as few messages as there can be (253 in one). $paths holds paths, or pairs
     * [path, mode]. The result has the same keys: a stream, or the Fob\Exception that says why there is none.
     * If the broker cannot be asked, that is thrown, and of what was opened until then nothing stays open.
     *
     * @return array<resource|Exception>
     */
    public function openMany(array $paths, string $mode = 'r', int $permissions = 0666): array
    {
        $requests = [];
        foreach ($paths as $item) {
            [$path, $each] = is_array($item) ? $item + [1 => $mode] : [$item, $mode];
            $requests[] = [$path, self::flagsOf($each), $permissions];
        }
        return $paths ? array_combine(array_keys($paths), $this->openAll($requests)) : [];
    }

    /**
     * May I? By the policy alone: no file is touched, so it need not be there. 'w', 'a' and 'c' ask for a
     * file that is there; for the right to create ask with 'x'.
     */
    public function check(string $path, string $mode = 'r'): bool
    {
        $result = $this->ask(self::CHECK, [[$path, self::withoutCreate(self::flagsOf($mode)), 0666]])[0];
        if ($result instanceof Exception && $result->getErrno() !== SOCKET_EACCES) {
            throw $result;
        }
        return $result === null;
    }

    /**
     * What may I open? Lines 'RIGHTS PATTERN', and 'deny RIGHTS PATTERN'.
     *
     * @return string[]
     */
    public function list(): array
    {
        $text = $this->question(self::LIST_RULES);
        return $text === '' ? [] : explode("\n", substr($text, -1) === "\n" ? substr($text, 0, -1) : $text);
    }

    /** version, maxMessage and maxEntries of the broker, and the generation of its policy: a round trip. */
    public function hello(): array
    {
        $body = $this->question(self::HELLO);
        if (strlen($body) !== 16) {
            throw $this->distrust('a HELLO of ' . strlen($body) . ' bytes');
        }
        return unpack('Lversion/LmaxMessage/LmaxEntries/Lgeneration', $body);
    }

    // ---- modes and paths ----

    private static function flagsOf(string $mode): int
    {
        if (!preg_match('/^[rwaxc][+bten]*$/D', $mode)) {
            throw new \InvalidArgumentException("no mode of fopen(): '" . Exception::escape($mode) . "'");
        }
        $flags = self::MODES[$mode[0]];
        if (strpos($mode, '+') !== false) {
            $flags |= $mode[0] === 'r' ? self::WRITE : self::READ;
        }
        return $flags | (strpos($mode, 'n') === false ? 0 : self::NONBLOCK);
    }

    /** What is asked first: a file that is there needs no right to create. */
    private static function withoutCreate(int $flags): int
    {
        return $flags & self::EXCLUSIVE ? $flags : $flags & ~self::CREATE;
    }

    private static function mayChange(int $flags): bool
    {
        return ($flags & ~(self::READ | self::NONBLOCK)) !== 0;
    }

    /** The entry, or an Exception: it cannot be asked. */
    private static function entry(string $path, int $flags, int $mode)
    {
        $length = strlen($path);
        if ($path === '' || $path[0] !== '/') {
            return new Exception(SOCKET_EINVAL, $path, 'not an absolute path');
        }
        if ($length > self::MAX_PATH) {
            return new Exception(SOCKET_EINVAL, $path, 'longer than the protocol takes');
        }
        if (strpos($path, "\0") !== false) {
            return new Exception(SOCKET_EINVAL, $path, 'a NUL in it');
        }
        return pack('LLSS', $flags, $mode, $length, 0) . $path . str_repeat("\0", -$length & 3);
    }

    // ---- requests ----

    /** [path, flags, permissions] each; a stream or an Exception for each. */
    private function openAll(array $requests): array
    {
        $first = [];
        foreach ($requests as [$path, $flags, $permissions]) {
            $first[] = [$path, self::withoutCreate($flags), $permissions];
        }
        $results = $this->ask(self::OPEN, $first);
        $missing = [];
        foreach ($requests as $i => $request) {
            if ($results[$i] instanceof NotFoundException && $first[$i] !== $request) {
                $missing[$i] = $request;
            }
        }
        if (!$missing) {
            return $results;
        }
        try {
            return array_replace($results, $this->ask(self::OPEN, $missing));
        } catch (\Throwable $error) {
            Connection::closeAll($results);
            throw $error;
        }
    }

    /** For each request null (allowed), a stream, or an Exception. In as many messages as it takes. */
    private function ask(int $kind, array $requests): array
    {
        $umask = umask();
        $results = $batch = [];
        $body = '';
        try {
            foreach ($requests as $i => [$path, $flags, $permissions]) {
                $mode = $flags & self::CREATE ? $permissions & 07777 & ~$umask : 0;
                $entry = self::entry($path, $flags, $mode);
                $results[$i] = $entry; // its place; an Exception stays there
                if ($entry instanceof Exception) {
                    continue;
                }
                $size = Connection::HEADER_SIZE + strlen($body) + strlen($entry);
                if (count($batch) === self::MAX_ENTRIES || $size > Connection::MAX_MESSAGE) {
                    $this->askBatch($kind, $batch, $body, $results);
                    $batch = [];
                    $body = '';
                }
                $batch[$i] = $requests[$i];
                $body .= $entry;
            }
            if ($batch) {
                $this->askBatch($kind, $batch, $body, $results);
            }
        } catch (\Throwable $error) {
            Connection::closeAll($results);
            throw $error;
        }
        return $results;
    }

    private function askBatch(int $kind, array $batch, string $body, array &$results): void
    {
        $changes = false;
        foreach ($batch as [, $flags]) {
            $changes = $changes || ($kind === self::OPEN && self::mayChange($flags));
        }
        try {
            [$count, $answer, $files] = $this->connection->exchange($kind, count($batch), $body, !$changes);
        } catch (Exception $error) {
            if ($error->getErrno() !== SOCKET_EMFILE) {
                throw $error;
            }
            foreach ($batch as $i => [$path]) { // an answer: the broker is there
                $results[$i] = new Exception(SOCKET_EMFILE, $path);
            }
            return;
        }
        $wrong = self::flaw($kind, count($batch), $count, $answer, $files);
        if ($wrong !== null) {
            Connection::closeAll($files);
            throw $this->distrust($wrong);
        }
        $answers = str_split($answer, self::RESULT_SIZE);
        foreach (array_keys($batch) as $at => $i) {
            $errno = unpack('l', $answers[$at])[1];
            $results[$i] = $errno === 0 ? array_shift($files) : Exception::of($errno, $batch[$i][0]);
            if (is_resource($results[$i]) && (fstat($results[$i])['mode'] & 0170000) === 0040000) {
                fclose($results[$i]);
                $results[$i] = new Exception(SOCKET_EISDIR, $batch[$i][0]);
            }
        }
    }

    /** Nothing of a reply is believed before all of it is right: null. */
    private static function flaw(int $kind, int $asked, int $count, string $answer, array $files): ?string
    {
        if ($count !== $asked || strlen($answer) !== $count * self::RESULT_SIZE) {
            return $count . ' results in ' . strlen($answer) . " bytes for $asked requests";
        }
        $used = 0;
        foreach (str_split($answer, self::RESULT_SIZE) as $result) {
            $error = unpack('l', $result)[1];
            [1 => $index, 2 => $zero] = unpack('L2', $result, 8);
            $has = $index !== self::NO_FILE;
            if ($error < 0 || $zero !== 0 || $has !== ($kind === self::OPEN && $error === 0)) {
                return "a result with error $error and descriptor $index";
            }
            if ($has && ($index !== $used || !isset($files[$used]))) { // in order, each once
                return "descriptor $index of " . count($files) . ", where $used were used";
            }
            $used += (int) $has;
        }
        if ($used !== count($files)) {
            return count($files) . " descriptors, where $used were used";
        }
        foreach ($files as $file) {
            if (!is_resource($file) || get_resource_type($file) !== 'stream') {
                return 'a socket in place of a file';
            }
        }
        return null;
    }

    private function question(int $kind): string
    {
        [, $body, $files] = $this->connection->exchange($kind, 0, '', true);
        if ($files) {
            Connection::closeAll($files);
            throw $this->distrust('descriptors that nobody asked for');
        }
        return $body;
    }

    /** What came cannot be believed: the next request goes out on another connection. */
    private function distrust(string $what): ProtocolException
    {
        $this->connection->drop();
        return new ProtocolException($what);
    }
}

/** @internal Messages, one at a time. */
final class Connection
{
    public const HEADER_SIZE = 16, MAX_MESSAGE = 65536;
    private const MAGIC = 'FOB1', REPLY = 0x8000, MAX_FILES = 253;
    private const RECONNECT_TRIES = 3, RECONNECT_WAIT_US = 40000;
    private const GONE = [SOCKET_EPIPE, SOCKET_ECONNRESET, SOCKET_ENOTCONN, SOCKET_ECONNREFUSED];

    private string $path;
    private array $types;
    private ?float $timeout;
    private $socket = null; // a Socket, before PHP 8 a resource
    private int $type = 0;
    private int $pid;
    private int $id = 0;
    private bool $closed = false;
    private ?int $deadline = null;
    private array $files = []; // of the message that is being received
    private bool $lost = false;

    public function __construct(string $path, array $types, ?float $timeout)
    {
        if ($timeout !== null && !($timeout > 0 && $timeout < 1e9)) {
            throw new \InvalidArgumentException('a timeout is so many seconds, or null');
        }
        $this->path = $path;
        $this->types = $types;
        $this->timeout = $timeout;
        $this->pid = getmypid();
        $this->begin();
        $this->connect();
    }

    public function close(): void
    {
        $this->closed = true;
        $this->drop();
    }

    public function drop(): void
    {
        $socket = $this->socket;
        $this->socket = null;
        if ($socket !== null) {
            socket_close($socket);
        }
        self::closeAll($this->files);
        $this->files = [];
    }

    /** Closes streams and sockets; leaves alone what is neither. */
    public static function closeAll(array $things): void
    {
        foreach ($things as $thing) {
            $type = is_resource($thing) ? get_resource_type($thing) : '';
            if ($type === 'stream') {
                fclose($thing);
            } elseif ($type === 'Socket' || $thing instanceof \Socket) {
                socket_close($thing);
            }
        }
    }

    /** The reply to a request: its count, its body, and what came with it, which is the caller's. */
    public function exchange(int $kind, int $count, string $body, bool $repeatable): array
    {
        if ($this->closed) {
            throw new \LogicException('the broker was closed');
        }
        if ($this->pid !== getmypid()) { // after a fork: the connection is the parent's
            $this->drop();
            $this->pid = getmypid();
        }
        $this->begin();
        $this->id = ($this->id + 1) & 0xFFFFFFFF;
        $header = pack('LSSL', self::HEADER_SIZE + strlen($body), $kind, $count, $this->id);
        $message = self::MAGIC . $header . $body;
        for ($again = true;; $again = false) {
            $sent = false;
            $state_known = false;
            try {
                if ($this->socket === null) {
                    $this->reconnect();
                }
                $this->send($message);
                $sent = true;
                $reply = $this->receive($kind | self::REPLY);
                $state_known = true;
                return $reply;
            } catch (Broken $broken) {
                if (!$again || ($sent && !$repeatable)) {
                    throw new ConnectionException(SOCKET_ECONNRESET, $this->path);
                }
            } catch (Exception $error) {
                $state_known = $error->getErrno() === SOCKET_EMFILE;
                throw $error;
            } finally {
                if (!$state_known) {
                    $this->drop();
                }
            }
        }
    }

    // ---- time ----

    private function begin(): void
    {
        $this->deadline = $this->timeout === null ? null : hrtime(true) + (int) ($this->timeout * 1e9);
    }

    /** The next call on this socket waits no longer than there is time. */
    private function limit($socket, int $option): void
    {
        if ($this->deadline === null) {
            return;
        }
        $left = intdiv($this->deadline - hrtime(true), 1000);
        if ($left <= 0) {
            throw $this->tooLate();
        }
        $time = ['sec' => intdiv($left, 1000000), 'usec' => $left % 1000000];
        socket_set_option($socket, SOL_SOCKET, $option, $time);
    }

    private function tooLate(): TimeoutException
    {
        return new TimeoutException(SOCKET_ETIMEDOUT, $this->path, 'the broker did not answer in time');
    }

    /** After a call that failed: returns if it is to be tried again. (Not all set the errno of the socket.) */
    private function failed(): void
    {
        $errno = socket_last_error();
        if ($errno === SOCKET_EINTR) {
            return;
        }
        if ($errno === SOCKET_EAGAIN) {
            throw $this->tooLate();
        }
        if (in_array($errno, self::GONE, true)) {
            throw new Broken();
        }
        throw new ConnectionException($errno ?: SOCKET_EPROTO, $this->path);
    }

    // ---- connecting ----

    private function connect(): void
    {
        if (strpos($this->path, "\0") !== false || $this->path === '') {
            throw new \InvalidArgumentException('no path of a socket');
        }
        if ($this->path[0] === '@') {
            throw new ConnectionException(SOCKET_EREMOTE, $this->path,
                'PHP cannot tell who serves an abstract name (name a path)');
        }
        $resolved = ini_get('open_basedir') ? false : @realpath($this->path);
        $name = $resolved === false ? $this->path : $resolved;
        if (strlen($name) > 107) {
            throw new ConnectionException(SOCKET_ENAMETOOLONG, $this->path);
        }
        $before = $resolved === false ? null : Place::of($resolved, $this->path);
        $socket = null;
        foreach ($this->types as $this->type) {
            $socket = $this->connectAs($this->type, $name);
            if ($socket !== null) {
                break;
            }
        }
        if ($socket === null) {
            throw new ConnectionException(SOCKET_EPROTOTYPE, $this->path);
        }
        $why = null;
        if ($resolved === false) {
            $why = Place::isDefault($this->path) ? null : 'open_basedir hides the place of the socket';
        } elseif (Place::of($resolved, $this->path) !== $before) {
            $why = 'it was replaced meanwhile';
        }
        if ($why !== null) {
            socket_close($socket);
            throw new ConnectionException(SOCKET_EPERM, $this->path, "who serves cannot be told: $why");
        }
        $this->socket = $socket;
    }

    /** null: it is of another type. */
    private function connectAs(int $type, string $name)
    {
        socket_clear_error();
        $socket = @socket_create(AF_UNIX, $type, 0);
        if ($socket === false || !($socket = self::closedOnExec($socket))) {
            throw new ConnectionException(socket_last_error() ?: SOCKET_EMFILE, $this->path);
        }
        try {
            if ($type === SOCK_DGRAM && !@socket_bind($socket, '')) { // the kernel chooses a name
                throw new ConnectionException(socket_last_error(), $this->path);
            }
            for (;;) {
                $this->limit($socket, SO_SNDTIMEO);
                if (@socket_connect($socket, $name)) {
                    return $socket;
                }
                $errno = socket_last_error();
                if ($errno === SOCKET_EPROTOTYPE) {
                    socket_close($socket);
                    return null;
                }
                if ($errno === SOCKET_EAGAIN) {
                    throw $this->tooLate();
                }
                if ($errno !== SOCKET_EINTR) {
                    throw new ConnectionException($errno, $this->path);
                }
            }
        } catch (Exception $error) {
            socket_close($socket);
            throw $error;
        }
    }

    /**
     * PHP makes sockets that every command inherits, and knows no fcntl(2). What is received can be closed on
     * exec: so it is sent to and fro. As a stream: PHP 8 sends another descriptor in place of a socket.
     * False: it failed.
     */
    private static function closedOnExec($socket)
    {
        $message = ['buffer_size' => 1, 'controllen' => socket_cmsg_space(SOL_SOCKET, SCM_RIGHTS, 1)];
        $stream = socket_export_stream($socket);
        if (!$stream || !@socket_create_pair(AF_UNIX, SOCK_DGRAM, 0, $pair)) {
            return false;
        }
        $rights = ['level' => SOL_SOCKET, 'type' => SCM_RIGHTS, 'data' => [$stream]];
        $done = @socket_sendmsg($pair[0], ['iov' => ['.'], 'control' => [$rights]], 0) !== false
            && @socket_recvmsg($pair[1], $message, MSG_CMSG_CLOEXEC) !== false;
        socket_close($pair[0]);
        socket_close($pair[1]);
        fclose($stream);
        return $done ? $message['control'][0]['data'][0] ?? false : false;
    }

    /** A broker that is being restarted is back in a moment. */
    private function reconnect(): void
    {
        for ($try = 1;; $try++) {
            try {
                $this->connect();
                return;
            } catch (ConnectionException $error) {
                $passes = in_array($error->getErrno(), [SOCKET_ECONNREFUSED, SOCKET_ENOENT], true);
                if (!$passes || $try === self::RECONNECT_TRIES) {
                    throw $error;
                }
            }
            usleep(self::RECONNECT_WAIT_US);
        }
    }

    // ---- one message ----

    /** The kernel would name the real ids, and the broker knows the effective ones. */
    private static function credentials(): array
    {
        if (!Place::isElevated()) {
            return [];
        }
        $ids = ['pid' => getmypid(), 'uid' => posix_geteuid(), 'gid' => posix_getegid()];
        return ['control' => [['level' => SOL_SOCKET, 'type' => SCM_CREDENTIALS, 'data' => $ids]]];
    }

    private function send(string $message): void
    {
        $credentials = self::credentials();
        while ($message !== '') {
            $this->limit($this->socket, SO_SNDTIMEO);
            socket_clear_error();
            $n = @socket_sendmsg($this->socket, ['iov' => [$message]] + $credentials, MSG_NOSIGNAL);
            if ($n === false) {
                $this->failed();
                continue;
            }
            $message = (string) substr($message, $n); // a stream took a part
        }
    }

    /** What one call gives; files are added to those of this message. '' is the end, or an empty datagram. */
    private function receiveSome(int $most): string
    {
        for (;;) {
            $this->limit($this->socket, SO_RCVTIMEO);
            socket_clear_error();
            $room = socket_cmsg_space(SOL_SOCKET, SCM_RIGHTS, self::MAX_FILES);
            $message = ['buffer_size' => $most, 'controllen' => $room];
            if (@socket_recvmsg($this->socket, $message, MSG_CMSG_CLOEXEC) !== false) {
                break;
            }
            $this->failed();
        }
        foreach ($message['control'] ?? [] as $part) {
            if ($part['level'] === SOL_SOCKET && $part['type'] === SCM_RIGHTS) {
                array_push($this->files, ...$part['data']);
            }
        }
        $this->lost = $this->lost || ($message['flags'] & MSG_CTRUNC) !== 0;
        if ($message['flags'] & MSG_TRUNC) {
            throw new ProtocolException('a message longer than there is');
        }
        return $message['iov'][0] ?? '';
    }

    private function receiveUntil(string $data, int $length): string
    {
        while (strlen($data) < $length) {
            $more = $this->receiveSome($length - strlen($data));
            if ($more === '') {
                throw new Broken();
            }
            $data .= $more;
        }
        return $data;
    }

    /** One message; of its header only the length is checked. */
    private function receiveMessage(): string
    {
        if ($this->type === SOCK_STREAM) {
            $data = $this->receiveUntil('', self::HEADER_SIZE);
        } else {
            $data = $this->receiveSome(self::MAX_MESSAGE);
            if ($data === '' && $this->type === SOCK_SEQPACKET) {
                throw new Broken();
            }
        }
        if (strlen($data) < self::HEADER_SIZE || strncmp($data, self::MAGIC, 4) !== 0) {
            throw new ProtocolException('a message of ' . strlen($data) . ' bytes without the header');
        }
        $length = unpack('L', $data, 4)[1];
        if ($length < self::HEADER_SIZE || $length > self::MAX_MESSAGE) {
            throw new ProtocolException("a length of $length");
        }
        if ($this->type === SOCK_STREAM) {
            $data = $this->receiveUntil($data, $length);
        }
        if (strlen($data) !== $length) {
            throw new ProtocolException(strlen($data) . " bytes that say they are $length");
        }
        return $data;
    }

    private function receive(int $kind): array
    {
        for (;;) {
            $this->files = [];
            $this->lost = false;
            $data = $this->receiveMessage();
            $header = unpack('Skind/Scount/Lid', $data, 8);
            $files = $this->files;
            $this->files = [];
            if ($this->type !== SOCK_DGRAM || $header['id'] === $this->id) {
                break;
            }
            self::closeAll($files); // what nobody waits for any more
        }
        if ($header['kind'] !== $kind || $header['id'] !== $this->id || $this->lost) {
            self::closeAll($files);
            if (!$this->lost) {
                throw new ProtocolException(sprintf('type 0x%x, id %d in reply to type 0x%x, id %d',
                    $header['kind'], $header['id'], $kind, $this->id));
            }
            throw new Exception(SOCKET_EMFILE); // all there can be fits, but not into this process
        }
        return [$header['count'], substr($data, self::HEADER_SIZE), $files];
    }
}

/** @internal The connection broke. */
final class Broken extends \Exception
{
}

/** @internal Who can have put the broker's socket where it is? */
final class Place
{
    private const NAMELESS = 65534; // what a uid reads as that has no name in this user namespace

    /** Other ids than those that it was started with: who started it chose the environment. */
    public static function isElevated(): bool
    {
        return function_exists('posix_geteuid')
            && (posix_getuid() !== posix_geteuid() || posix_getgid() !== posix_getegid());
    }

    public static function environment(string $name): string
    {
        return self::isElevated() ? '' : (string) getenv($name);
    }

    public static function isDefault(string $path): bool
    {
        $all = [Broker::DEFAULT_SOCKET, Broker::DEFAULT_STREAM, Broker::DEFAULT_DATAGRAM];
        return in_array($path, $all, true);
    }

    /** Device and inode of a socket that can be believed; $named is what it is called. */
    public static function of(string $path, string $named): array
    {
        clearstatcache();
        $believed = self::believed();
        $hidden = !in_array(self::NAMELESS, $believed, true) && self::uidsAreMissing();
        $at = '';
        foreach (explode('/', $path) as $part) {
            if ($part !== '') {
                self::checkDirectory($at === '' ? '/' : $at, $hidden, $believed, $named);
                $at .= '/' . $part;
            }
        }
        $status = @lstat($at);
        if ($status === false) {
            throw new ConnectionException(SOCKET_ENOENT, $named);
        }
        if (($status['mode'] & 0170000) !== 0140000) {
            throw new ConnectionException(SOCKET_ECONNREFUSED, $named, 'no socket');
        }
        if ($hidden && $status['uid'] === self::NAMELESS) {
            if (!self::isDefault($path) && !self::isMount($path)) {
                throw new ConnectionException(SOCKET_EREMOTE, $named, 'who serves cannot be told from inside '
                    . 'this user namespace (bind this very socket into it, or set FOB_SERVER=65534)');
            }
        } elseif (!in_array($status['uid'], $believed, true)) {
            $why = sprintf('belongs to uid %1$d, neither root nor you (FOB_SERVER=%1$d if you trust it)', $status['uid']);
            throw new ConnectionException(SOCKET_EPERM, $named, $why);
        }
        return [$status['dev'], $status['ino']];
    }

    /** Can nobody else replace what is in it? In a sticky one nobody can who does not own it. */
    private static function checkDirectory(string $path, bool $hidden, array $believed, string $named): void
    {
        $status = @lstat($path);
        if ($status === false) {
            throw new ConnectionException(SOCKET_ENOENT, $named);
        }
        $open = ($status['mode'] & 0022) !== 0 && ($hidden || !($status['mode'] & 01000));
        $theirs = in_array($status['uid'], $believed, true) || ($hidden && $status['uid'] === self::NAMELESS);
        if (($status['mode'] & 0170000) !== 0040000 || $open || !$theirs) {
            throw new ConnectionException($hidden ? SOCKET_EREMOTE : SOCKET_EPERM, $named,
                "who serves cannot be told: others can replace what is in $path");
        }
    }

    private static function believed(): array
    {
        $uids = [0];
        if (function_exists('posix_geteuid')) {
            $uids[] = posix_geteuid();
        } else {
            preg_match('/^Uid:\s+\d+\s+(\d+)/m', (string) @file_get_contents('/proc/self/status'), $ids);
            $uids[] = (int) ($ids[1] ?? 0);
        }
        $more = self::environment('FOB_SERVER');
        if (preg_match('/^\d{1,10}$/D', $more)) {
            $uids[] = (int) $more;
        }
        return $uids;
    }

    /** Are there uids without a name here? The initial user namespace has all. */
    private static function uidsAreMissing(): bool
    {
        $map = @file_get_contents('/proc/self/uid_map');
        return $map !== false && !preg_match('/^\s*0\s+0\s+4294967295\s*$/D', $map);
    }

    /** Was it bound here by itself? */
    private static function isMount(string $path): bool
    {
        $unescaped = static fn (array $found): string => chr((int) octdec($found[1]));
        foreach (@file('/proc/self/mountinfo') ?: [] as $line) {
            $point = explode(' ', $line)[4] ?? '';
            if (preg_replace_callback('/\\\\([0-7]{3})/', $unescaped, $point) === $path) {
                return true;
            }
        }
        return false;
    }
}
