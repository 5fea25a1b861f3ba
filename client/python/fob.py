"""Files from the file-open broker fobd, as ordinary file objects.

    import fob

    with fob.open('/var/log/syslog') as log:                 # on a connection that the module keeps
        print(log.readline())

    with fob.Broker() as broker:                             # on one of your own
        with broker.open('/srv/reports/today.csv', 'a') as report:
            report.write('17,4\\n')
        for file in broker.open_many(['/etc/hosts', '/etc/shadow']):
            print(file)                                 # a file, or the OSError that says why not

A path is absolute and clean (no '.', '..' or '//'). Modes are those of the built-in open(). What fails is
an OSError with path and errno, and so of the subclass that one knows:

    PermissionError         EACCES: the policy refuses. EPERM: a check of the file, or of who asks, refuses;
                            or (when connecting) somebody else serves this socket
    FileNotFoundError, ...  what the kernel said
    TimeoutError            ETIMEDOUT: the file system did not answer in time
    BlockingIOError         EAGAIN: over a quota, or the file is leased: try later
    ConnectionResetError    the connection broke after the request was sent: what became of it is not known
    ProtocolError           EPROTO: the other side does not speak the protocol
    OSError                 EMFILE: the descriptors did not fit into this process; EREMOTE: see below

A connection that broke is made anew; a request that had been sent is repeated only if it can change nothing.
Any number of threads may use one Broker; after a fork the child makes a connection of its own.

Who serves must be root, or the caller's own user, else it is not believed: PermissionError. In a user
namespace (a sandbox) the kernel does not tell. There a socket is believed if it is the default one, or was
bound into the sandbox by itself, and nobody else can put another in its place; else the error is EREMOTE.
$FOB_SERVER names one more uid to believe, as it is seen from here: 65534 for whoever has no name in this
user namespace.

The broker's socket is $FOB_SOCKET, else /run/fob/fob.sock; of type SOCK_SEQPACKET or SOCK_STREAM.
fob-protocol(7) has the protocol, libfob(3) the same for C.
"""

import collections as _collections
import errno as _errno
import io as _io
import os as _os
import socket as _socket
import stat as _stat
import struct as _struct
import threading as _threading
import time as _time
import weakref as _weakref

__all__ = ['Broker', 'Hello', 'ProtocolError', 'Server', 'open', 'DEFAULT_SOCKET']

DEFAULT_SOCKET = '/run/fob/fob.sock'

Hello = _collections.namedtuple('Hello', 'version max_message max_entries generation')
Server = _collections.namedtuple('Server', 'pid uid gid')

_OPEN, _CHECK, _LIST, _HELLO, _REPLY = 1, 2, 3, 4, 0x8000
_HEADER = _struct.Struct('=4sIHHI')  # magic, length, type, count, id
_ENTRY = _struct.Struct('=IIHH')     # flags, mode, length of the path, zero
_RESULT = _struct.Struct('=iIII')    # error, rule, index of the descriptor, zero
_NUMBERS = _struct.Struct('=IIII')   # the body of a HELLO reply
_UCRED = _struct.Struct('=iII')
_MAGIC = b'FOB1'
_MAX_MESSAGE, _MAX_ENTRIES, _MAX_PATH, _NO_FD = 65536, 253, 4095, 0xFFFFFFFF

_READ, _WRITE, _APPEND, _CREATE = 0x001, 0x002, 0x004, 0x008
_DIRECTORY, _NOFOLLOW, _PATH = 0x040, 0x080, 0x100
_O_PATH = getattr(_os, 'O_PATH', 0o10000000)
_FLAGS = ((_os.O_APPEND, _APPEND), (_os.O_CREAT, _CREATE), (_os.O_EXCL, 0x010), (_os.O_TRUNC, 0x020),
          (_os.O_DIRECTORY, _DIRECTORY), (_os.O_NOFOLLOW, _NOFOLLOW), (_O_PATH, _PATH),
          (_os.O_NONBLOCK, 0x200), (_os.O_SYNC, 0x400))
_MEANINGLESS = _os.O_CLOEXEC | _os.O_NOCTTY | getattr(_os, 'O_LARGEFILE', 0)

_RECONNECT_TRIES, _RECONNECT_WAIT = 3, 0.04
_GONE = (_errno.EPIPE, _errno.ECONNRESET, _errno.ENOTCONN, _errno.ECONNREFUSED)

# Room for whatever the kernel may send: descriptors of a whole message, credentials, a pidfd.
_CONTROL_SIZE = (_socket.CMSG_SPACE(_MAX_ENTRIES * 4) + _socket.CMSG_SPACE(_UCRED.size)
                 + _socket.CMSG_SPACE(4))
_SCM_PIDFD = 4


class ProtocolError(OSError):
    """The other side does not speak the protocol of fobd. Its errno is EPROTO."""

    def __init__(self, what):
        super().__init__(_errno.EPROTO, 'not the protocol of fobd: ' + what)


def _error(code, path=None, text=None):
    return OSError(code, text or _os.strerror(code), path)


# ---- paths, flags, modes ----

def _flags_to_wire(flags):
    """Flags of open(2) as those of the protocol; None: it does not have them. As libfob does."""
    known, left = 0, flags & ~(_os.O_ACCMODE | _MEANINGLESS)
    for bit, wire in _FLAGS:
        if flags & bit == bit:
            known |= wire
            left &= ~bit
    access = flags & _os.O_ACCMODE
    if left or access == _os.O_ACCMODE:
        return None
    if known & _PATH:
        return known & (_PATH | _DIRECTORY | _NOFOLLOW)
    if access == _os.O_RDONLY:
        return None if known & _APPEND else known | _READ
    # APPEND alone where it can be: WRITE would need a right more.
    known |= 0 if known & _APPEND else _WRITE
    return known | _READ if access == _os.O_RDWR else known


class _Flags(Exception):
    pass


def _flags_of(mode):
    """The flags with which the built-in open() would open a file in this mode. ValueError: it is none."""
    def opener(_, flags):
        raise _Flags(flags)
    try:
        with _io.open('-', mode, encoding=None, opener=opener):
            raise AssertionError('opened without its opener')
    except _Flags as found:
        return found.args[0]


def _path_of(path):
    path = _os.fspath(path)
    if b'\0' in _os.fsencode(path):
        raise ValueError('embedded null byte')
    return path


def _umask():
    """umask(2) can only be read by changing it, which other threads would notice; /proc tells it without."""
    try:
        with _io.open('/proc/self/status', 'rb') as status:
            for line in status:
                if line.startswith(b'Umask:'):
                    return int(line.split()[1], 8)
    except (OSError, ValueError, IndexError):
        pass
    mask = _os.umask(0o077)
    _os.umask(mask)
    return mask


def _may_change(flags):
    return flags & _os.O_ACCMODE != _os.O_RDONLY or flags & (_os.O_CREAT | _os.O_TRUNC | _os.O_APPEND) != 0


def _without_create(flags):
    """What is asked first: a file that is there needs no right to create."""
    return flags & ~_os.O_CREAT if flags & _os.O_CREAT and not flags & _os.O_EXCL else flags


def _encode_entry(path, flags, permissions, mask):
    name, wire = _os.fsencode(path), _flags_to_wire(flags)
    if not name.startswith(b'/'):
        raise _error(_errno.EINVAL, path, 'not an absolute path')
    if len(name) > _MAX_PATH:
        raise _error(_errno.EINVAL, path, 'longer than the protocol takes')
    if wire is None:
        raise _error(_errno.EINVAL, path, 'flags that the protocol does not have')
    mode = permissions & 0o7777 & ~mask if wire & _CREATE else 0
    return _ENTRY.pack(wire, mode, len(name), 0) + name + bytes(-len(name) % 4)


# ---- descriptors ----

def _close_all(things):
    """Closes descriptors and files; leaves alone what is neither."""
    for thing in things:
        try:
            if isinstance(thing, int):
                _os.close(thing)
            elif isinstance(thing, _io.IOBase):
                thing.close()
        except OSError:
            pass  # it is closed all the same


def _take_descriptors(control, fds):
    for level, kind, data in control:
        if level != _socket.SOL_SOCKET or kind not in (_socket.SCM_RIGHTS, _SCM_PIDFD):
            continue
        found = [fd for fd, in _struct.iter_unpack('=i', data[:len(data) // 4 * 4])]
        if kind == _socket.SCM_RIGHTS:
            fds.extend(found)
        else:
            _close_all(fd for fd in found if fd >= 0)


# ---- who serves ----

_NAMELESS = 65534  # what a uid reads as that has no name in this user namespace
_LAST_UID = 0xFFFFFFFE


def _is_elevated():
    """A set-user-ID program: whoever started it chose the environment."""
    return _os.getuid() != _os.geteuid() or _os.getgid() != _os.getegid()


def _environment(name):
    return '' if _is_elevated() else _os.environ.get(name, '')


def _uids_are_missing():
    """Are there uids without a name here? The initial user namespace has all, to the last.

    The kernel says that there is no such uid (EINVAL) before it says who may (EPERM). No /proc is needed.
    """
    with _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM) as own:
        try:
            _os.fchown(own.fileno(), _LAST_UID, -1)
        except OSError as error:
            return error.errno != _errno.EPERM
    return False


def _is_mount(fd):
    """Is this the root of a mount: was it bound here by itself? statx(2), which Python has not."""
    try:
        import ctypes
        libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(256)
        at_empty_path, attr_mount_root = 0x1000, 0x2000
        if libc.statx(fd, b'', at_empty_path, 0, buffer) != 0:
            return False
    except (ImportError, AttributeError, OSError):
        return False
    attributes, = _struct.unpack_from('=Q', buffer.raw, 8)
    return attributes & attr_mount_root != 0


def _is_theirs(status):
    """A directory where only root, we, or somebody who has no name here can put names."""
    return (_stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
            and status.st_uid in (0, _os.geteuid(), _NAMELESS))


def _is_vouched_for(path):
    """Did root, or who made this sandbox, put the socket there, and can nobody else? As libfob judges it."""
    parts = _os.fsencode(path).split(b'/')
    if parts[0] or any(part in (b'', b'.', b'..') for part in parts[1:]):
        return False
    fd = -1
    try:
        fd = _os.open('/', _O_PATH | _os.O_DIRECTORY)
        for part in parts[1:]:
            if not _is_theirs(_os.fstat(fd)):
                return False
            below = _os.open(part, _O_PATH | _os.O_NOFOLLOW, dir_fd=fd)
            _os.close(fd)
            fd = below
        return (_stat.S_ISSOCK(_os.fstat(fd).st_mode)
                and (_os.fsencode(path) == _os.fsencode(DEFAULT_SOCKET) or _is_mount(fd)))
    except OSError:
        return False
    finally:
        if fd >= 0:
            _os.close(fd)


def _server_of(sock):
    return Server(*_UCRED.unpack(sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED.size)))


def _check_server(sock, path):
    uid = _server_of(sock).uid
    if _environment('FOB_SERVER') == str(uid):
        return
    if uid == _NAMELESS and _uids_are_missing():
        if not _is_vouched_for(path):
            raise _error(_errno.EREMOTE, path, 'who serves cannot be told from inside this user namespace '
                         '(bind this very socket into the sandbox, or set FOB_SERVER=65534)')
    elif uid not in (0, _os.geteuid()):
        raise _error(_errno.EPERM, path, 'served by uid %d, which is neither root nor you '
                     '(FOB_SERVER=%d if you trust it)' % (uid, uid))


# ---- the connection ----

def _address(path):
    name = _os.fsencode(path)
    if not name or name == b'@':
        raise _error(_errno.EINVAL, path)
    if name[:1] == b'@':
        name = b'\0' + name[1:]
    elif b'\0' in name:
        raise ValueError('embedded null byte')
    if len(name) + (name[:1] != b'\0') > 108:
        raise _error(_errno.ENAMETOOLONG, path)
    return name


def _connect_as(kind, path):
    sock = _socket.socket(_socket.AF_UNIX, kind)
    try:
        sock.settimeout(None)  # whatever socket.setdefaulttimeout() says
        sock.connect(_address(path))
        _check_server(sock, path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.filename is None:
            raise _error(error.errno, path) from None
        raise
    return sock


def _connect(path):
    try:
        return _connect_as(_socket.SOCK_SEQPACKET, path)
    except OSError as error:
        if error.errno != _errno.EPROTOTYPE:  # a socket of another type
            raise
    return _connect_as(_socket.SOCK_STREAM, path)


def _reconnect(path):
    """A broker that is being restarted is back in a moment."""
    for _ in range(_RECONNECT_TRIES):
        try:
            return _connect(path)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            last = error
        _time.sleep(_RECONNECT_WAIT)
    raise last


def _send(sock, message):
    control = []
    if _is_elevated():  # the kernel would send the real ids, and the broker knows the effective ones
        ids = _UCRED.pack(_os.getpid(), _os.geteuid(), _os.getegid())
        control = [(_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS, ids)]
    done = sock.sendmsg([message], control, _socket.MSG_NOSIGNAL)
    while done < len(message):  # a stream took a part
        done += sock.send(message[done:], _socket.MSG_NOSIGNAL)


class _Incoming:
    """One message and its descriptors, which are closed unless taken out of fds."""

    def __init__(self, sock):
        self._sock, self.fds, self._lost, self.data = sock, [], False, b''

    def _receive(self, size):
        data, control, flags, _ = self._sock.recvmsg(size, _CONTROL_SIZE, _socket.MSG_CMSG_CLOEXEC)
        _take_descriptors(control, self.fds)
        self._lost = self._lost or flags & _socket.MSG_CTRUNC != 0
        if not data:
            raise _error(_errno.ECONNRESET)
        if flags & _socket.MSG_TRUNC:
            raise ProtocolError('a message longer than there is')
        self.data += data

    def _until(self, size):
        while len(self.data) < size:
            self._receive(size - len(self.data))

    def header(self):
        """Receives it. Its length can be believed; what else it says is not checked yet."""
        if self._sock.type == _socket.SOCK_STREAM:
            self._until(_HEADER.size)
        else:
            self._receive(_MAX_MESSAGE)
        if len(self.data) < _HEADER.size:
            raise ProtocolError('a message shorter than its header')
        magic, length, kind, count, number = _HEADER.unpack_from(self.data)
        if magic != _MAGIC:
            raise ProtocolError('a message that begins with %r' % magic)
        if not _HEADER.size <= length <= _MAX_MESSAGE:
            raise ProtocolError('a length of %d' % length)
        if self._sock.type == _socket.SOCK_STREAM:
            self._until(length)
        if len(self.data) != length:
            raise ProtocolError('%d bytes that say they are %d' % (len(self.data), length))
        return kind, count, number

    def check_lost(self):
        """All there can be fits into the control buffer, so descriptors found no room in this process."""
        if self._lost:
            raise _error(_errno.EMFILE)

    def close(self):
        fds, self.fds = self.fds, []
        _close_all(fds)

    def __del__(self):  # an exception from elsewhere: a signal's
        self.close()


def _results_of(reply, count, asked, kind):
    """(error, descriptor or None) for each entry. Nothing of a reply is believed before all is right."""
    results, used = [], 0
    if count != asked or len(reply.data) != _HEADER.size + count * _RESULT.size:
        raise ProtocolError('%d results in %d bytes for %d requests' % (count, len(reply.data), asked))
    for error, _, index, zero in _RESULT.iter_unpack(reply.data[_HEADER.size:]):
        if error < 0 or zero:
            raise ProtocolError('a result with error %d' % error)
        if index == _NO_FD:
            if kind == _OPEN and not error:
                raise ProtocolError('a file without a descriptor')
            results.append((error, None))
            continue
        if error or kind != _OPEN or index != used or used >= len(reply.fds):  # in order, each once
            raise ProtocolError('descriptor %d of %d, where %d were used' % (index, len(reply.fds), used))
        results.append((0, reply.fds[used]))
        used += 1
    if used != len(reply.fds):
        raise ProtocolError('%d descriptors, where %d were used' % (len(reply.fds), used))
    return results


def _default_path():
    return _environment('FOB_SOCKET') or DEFAULT_SOCKET


class Broker:
    """A connection to fobd. Connects at once: OSError if there is no broker, or not one to believe.

    socket is the path of its socket ('@NAME': an abstract name); None: $FOB_SOCKET, else DEFAULT_SOCKET.
    """

    def __init__(self, socket=None):
        self._sock = None
        self._closed = False
        self._lock = _threading.Lock()
        self._pid = _os.getpid()
        self._next_id = 0
        self._path = _default_path() if socket is None else _os.fspath(socket)
        self._sock = _connect(self._path)
        _brokers.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return '<fob.Broker %r%s>' % (self._path, ' closed' if self._closed else '')

    def close(self):
        """Closes the connection. Files that were got stay open. A second time: nothing."""
        self._begin()
        with self._lock:
            self._closed = True
            self._drop()

    def __del__(self):
        self._drop()

    # ---- files ----

    def open(self, path, mode='r', buffering=-1, encoding=None, errors=None, newline=None,
             permissions=0o666):
        """The built-in open(), through the broker: the same arguments, the same file objects.

        permissions, less the umask and less what the policy takes, are those of a file that is created. 'w'
        and 'a' need the right to create only if there is no such file yet: they ask without it, and again if
        there is none. 'a' alone needs the right to append, all else that writes the right to write.
        """
        def opener(name, flags):
            try:
                return self.open_fd(name, _without_create(flags), permissions)
            except FileNotFoundError:
                if _without_create(flags) == flags:
                    raise
            return self.open_fd(name, flags, permissions)
        return _io.open(_path_of(path), mode, buffering, encoding, errors, newline, opener=opener)

    def open_fd(self, path, flags=_os.O_RDONLY, permissions=0o666):
        """os.open() through the broker: a descriptor, not inheritable. It asks for what the flags say.

        With os.O_DIRECTORY a directory's, for os.listdir(fd) and os.scandir(fd).
        """
        path = _path_of(path)
        result = []
        try:
            self._ask(_OPEN, [(path, flags, permissions)], result)
        except BaseException:
            _close_all(result)
            raise
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def open_many(self, paths, mode='r', buffering=-1, encoding=None, errors=None, newline=None,
                  permissions=0o666):
        """Any number of files in as few messages as there can be (253 in one).

        paths holds paths, or pairs of a path and its own mode. The result is a list as long: a file, or the
        OSError that says why there is none. When the broker cannot be asked, or an argument is wrong, that is
        raised, and of what was opened until then nothing stays open.
        """
        asked = [item if isinstance(item, tuple) else (item, mode) for item in paths]
        flags = {each: _flags_of(each) for each in {each for _, each in asked}}
        requests = [(_path_of(path), flags[each], permissions) for path, each in asked]
        results = []
        try:
            first = [(path, _without_create(wanted), permissions) for path, wanted, _ in requests]
            self._ask(_OPEN, first, results)
            self._create_missing(requests, results)
            for i, (path, each) in enumerate(asked):
                if isinstance(results[i], int):
                    self._wrap(results, i, path, (each, buffering, encoding, errors, newline))
        except BaseException:
            _close_all(results)
            raise
        return results

    def _create_missing(self, requests, results):
        missing = [i for i, (_, flags, _) in enumerate(requests)
                   if isinstance(results[i], FileNotFoundError) and _without_create(flags) != flags]
        created = []
        try:
            self._ask(_OPEN, [requests[i] for i in missing], created)
        finally:
            for i, result in zip(missing, created):
                results[i] = result

    @staticmethod
    def _wrap(results, i, path, arguments):
        """Makes a file of the descriptor results[i]; the file closes it when that fails."""
        def opener(_name, _flags):
            fd, results[i] = results[i], None
            return fd
        try:
            results[i] = _io.open(path, *arguments, opener=opener)
        except OSError as error:  # a directory
            if isinstance(results[i], int):
                _close_all([results[i]])
            results[i] = error

    # ---- questions ----

    def check(self, path, mode='r'):
        """May I? True or False, by the policy alone: no file is touched, so it need not be there.

        mode is one of open()'s, or flags of os.open(). 'w' and 'a' ask for a file that is there; for the
        right to create ask with 'x', or os.O_CREAT.
        """
        flags = mode if isinstance(mode, int) else _without_create(_flags_of(mode))
        result = []
        self._ask(_CHECK, [(_path_of(path), flags, 0o666)], result)
        if result[0] is None:
            return True
        if result[0].errno != _errno.EACCES:
            raise result[0]
        return False

    def list(self):
        """What may I open? Lines 'RIGHTS PATTERN', and 'deny RIGHTS PATTERN'."""
        lines = _os.fsdecode(self._question(_LIST)).split('\n')
        return lines if lines[-1] else lines[:-1]

    def hello(self):
        """Version and limits of the broker, and the generation of its policy: a round trip."""
        body = self._question(_HELLO)
        if len(body) != _NUMBERS.size:
            raise ProtocolError('a HELLO of %d bytes' % len(body))
        return Hello(*_NUMBERS.unpack(body))

    def server(self):
        """Who called listen(2) on the socket: pid, uid, gid, as they are seen from here."""
        self._begin()
        with self._lock:
            return _server_of(self._need())

    # ---- one request at a time ----

    def _question(self, kind):
        reply, _ = self._exchange(kind, 0, b'', True)
        if reply.fds:
            reply.close()
            self._give_up()
            raise ProtocolError('descriptors that nobody asked for')
        return reply.data[_HEADER.size:]

    def _ask(self, kind, requests, results):
        """Appends to results for each request: its descriptor (None for a check), or an OSError."""
        mask = _umask() if any(flags & _os.O_CREAT for _, flags, _ in requests) else 0
        batch, size = [], _HEADER.size
        for path, flags, permissions in requests:
            entry, failed = b'', None
            try:
                entry = _encode_entry(path, flags, permissions, mask)
            except OSError as error:
                failed = error
            if sum(1 for each in batch if each[1]) == _MAX_ENTRIES or size + len(entry) > _MAX_MESSAGE:
                self._ask_batch(kind, batch, results)
                batch, size = [], _HEADER.size
            batch.append((path, entry, failed, _may_change(flags)))
            size += len(entry)
        self._ask_batch(kind, batch, results)

    def _ask_batch(self, kind, batch, results):
        entries = [entry for _, entry, _, _ in batch if entry]
        answers = iter(self._ask_entries(kind, entries, not any(changes for _, _, _, changes in batch)))
        for path, entry, failed, _ in batch:
            if not entry:
                results.append(failed)
                continue
            error, fd = next(answers)
            results.append(_error(error, path) if error else fd)

    def _ask_entries(self, kind, entries, repeatable):
        if not entries:
            return []
        try:
            reply, count = self._exchange(kind, len(entries), b''.join(entries), repeatable)
        except OSError as error:
            if error.errno != _errno.EMFILE:
                raise
            return [(_errno.EMFILE, None)] * len(entries)  # an answer: the broker is there
        try:
            results = _results_of(reply, count, len(entries), kind)
        except BaseException:
            reply.close()
            self._give_up()
            raise
        reply.fds = []
        return results

    def _exchange(self, kind, count, body, repeatable):
        """The reply to a request, its descriptors the caller's, and its count."""
        self._begin()
        with self._lock:
            self._next_id = self._next_id + 1 & 0xFFFFFFFF
            message = _HEADER.pack(_MAGIC, _HEADER.size + len(body), kind, count, self._next_id) + body
            for again in (True, False):
                sent = False
                sock = self._need()
                try:
                    _send(sock, message)
                    sent = True
                    return self._receive(sock, kind)
                except BaseException as error:
                    code = error.errno if isinstance(error, OSError) else None
                    if code != _errno.EMFILE:
                        self._drop()  # its state is not known any more
                    if code not in _GONE:
                        raise
                    if not again or sent and not repeatable:
                        raise _error(_errno.ECONNRESET, self._path) from None
            raise AssertionError('neither answered nor failed')

    def _receive(self, sock, asked):
        reply = _Incoming(sock)
        try:
            kind, count, number = reply.header()
            if kind != asked | _REPLY or number != self._next_id:
                raise ProtocolError('type %#x, id %d in reply to type %#x, id %d'
                                    % (kind, number, asked | _REPLY, self._next_id))
            reply.check_lost()
            return reply, count
        except BaseException:
            reply.close()
            raise

    def _begin(self):
        """After a fork that Python does not know of: as _after_fork()."""
        if self._pid != _os.getpid():
            self._begin_in_child()

    def _begin_in_child(self):
        # The connection is the parent's: the broker refuses what another process sends on it. The lock may be
        # held by a thread that is not here.
        self._lock = _threading.Lock()
        self._pid = _os.getpid()
        self._drop()

    def _need(self):
        if self._closed:
            raise ValueError('the broker was closed')
        if self._sock is None:
            self._sock = _reconnect(self._path)
        return self._sock

    def _give_up(self):
        """What came could not be believed: the next request goes out on another connection."""
        with self._lock:
            self._drop()

    def _drop(self):
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()


# ---- the module's own connection ----

_brokers = _weakref.WeakSet()
_kept = {}
_kept_lock = _threading.Lock()


def _after_fork():
    global _kept_lock
    _kept_lock = _threading.Lock()
    for broker in list(_brokers):
        broker._begin_in_child()


_os.register_at_fork(after_in_child=_after_fork)


def open(path, mode='r', buffering=-1, encoding=None, errors=None, newline=None,
         permissions=0o666):
    """Broker.open() on a connection that the module makes at the first call and keeps."""
    name = _default_path()
    with _kept_lock:
        broker = _kept.get(name)
        if broker is None:
            _kept.clear()
            broker = _kept[name] = Broker(name)
    return broker.open(path, mode, buffering, encoding, errors, newline, permissions)
