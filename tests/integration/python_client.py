"""fob.py against a real, confined fobd and against a broker that lies. Run by python.sh, as an ordinary user.

python_client.py real DIR      DIR/sock and DIR/stream are the broker's; python.sh made the files
python_client.py fake DIR      makes its own brokers in DIR
python_client.py refused PATH  PATH is served by somebody else
python_client.py serve PATH    serves there, and says nothing
"""

import array
import errno
import gc
import io
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
import traceback

import fob

passed = failed = 0
tests = {'real': [], 'fake': [], 'refused': []}
kinds = {'sock': socket.SOCK_SEQPACKET, 'stream': socket.SOCK_STREAM}


def test(group, *variants):
    def register(function):
        tests[group] += [(function, variant) for variant in variants or ((),)]
        return function
    return register


def expect(condition, *what):
    global passed, failed
    if condition:
        passed += 1
    else:
        failed += 1
        print('line %d:' % sys._getframe(1).f_lineno, *what or ('not so',))


def same(got, want):
    global passed, failed
    if got == want and type(got) is type(want):
        passed += 1
    else:
        failed += 1
        print('line %d: %r, not %r' % (sys._getframe(1).f_lineno, got, want))


def raises(kind, code, path, function, *arguments, **named):
    """Holds that the call raises exactly that. The exception."""
    global passed, failed
    try:
        got = function(*arguments, **named)
    except Exception as error:
        of = (type(error), getattr(error, 'errno', None), getattr(error, 'filename', None))
        if of == (kind, code, path):
            passed += 1
            return error
        got = '%r, errno %r of %r' % (error, of[1], of[2])
    failed += 1
    print('line %d: %s, not %s' % (sys._getframe(1).f_lineno, got, kind.__name__))
    return None


def descriptors():
    gc.collect()
    return set(os.listdir('/proc/self/fd'))


def run(group):
    global failed
    for function, variant in tests[group]:
        before, then = descriptors(), failed
        try:
            function(*variant if isinstance(variant, tuple) else (variant,))
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
        leaked = descriptors() - before
        if leaked:
            failed += 1
            print('left open:', *[os.readlink('/proc/self/fd/' + fd) for fd in leaked])
        if failed != then:
            print('-- in', function.__name__, variant)


def child(function):
    """Runs it in a child. True if its expectations held there."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        global failed
        failed = 0
        try:
            function()
        except BaseException:
            failed += 1
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(1 if failed else 0)
    return os.waitpid(pid, 0)[1] == 0


# ---- a real broker ----

place = ''


def at(name):
    return place + '/' + name


def broker(kind):
    return fob.Broker(at(kind))


def read(path, **named):
    with io.open(path, **named) as file:
        return file.read()


def write(path, text):
    with io.open(path, 'w') as file:
        file.write(text)


def outcome(function, path, mode):
    """What comes of opening, writing, and reading all, as far as it goes."""
    steps = []
    try:
        with function(path, mode) as file:
            steps += [type(file).__name__, file.mode, file.name == path]
            steps += [file.readable(), file.writable(), file.tell()]
            if file.writable():
                file.write('new' if isinstance(file, io.TextIOBase) else b'new')
            if file.readable():
                file.seek(0)
                steps.append(file.read())
    except (OSError, ValueError) as error:
        steps += [type(error).__name__, getattr(error, 'errno', None), str(error).replace(path, '')]
    steps.append(read(path) if os.path.exists(path) else None)
    return steps


@test('real', *kinds)
def test_modes_are_those_of_open(kind):
    with broker(kind) as b:
        for mode in ('r', 'w', 'a', 'x', 'rb', 'wb', 'ab', 'xb', 'r+', 'w+', 'a+', 'x+', 'rb+', 'w+b', 'ba+',
                     'rt', 'q', '', 'rw', 'rtb', '+', 'b'):
            for there in (False, True):
                results = []
                for function in (io.open, b.open):
                    path = at('own/mode')
                    if os.path.exists(path):
                        os.unlink(path)
                    if there:
                        write(path, 'already here')
                    results.append(outcome(function, path, mode))
                same(results[1], results[0])


@test('real', *kinds)
def test_arguments_are_those_of_open(kind):
    with broker(kind) as b:
        path = at('own/arguments')
        with b.open(path, 'w', encoding='utf-16-le', newline='\r\n') as file:
            file.write('ä\n')
        same(read(path, mode='rb'), 'ä\r\n'.encode('utf-16-le'))
        with b.open(path, encoding='ascii', errors='replace') as file:
            expect('\ufffd' in file.read())
        with b.open(path, 'rb', buffering=0) as file:
            same(type(file), io.FileIO)
            same(os.get_inheritable(file.fileno()), False)
        with b.open(os.fsencode(path), 'rb') as file:
            same(file.read(2), b'\xe4\x00')
        raises(ValueError, None, None, b.open, path, 'rb', encoding='ascii')
        raises(ValueError, None, None, b.open, path, 'r', buffering=0)
        raises(LookupError, None, None, b.open, path, 'r', encoding='no such')
        raises(ValueError, None, None, b.open, path + '\0x')
        raises(TypeError, None, None, b.open, 0)
        raises(TypeError, None, None, b.open, None)


@test('real', *kinds)
def test_what_fails(kind):
    with broker(kind) as b:
        raises(PermissionError, errno.EACCES, at('secret/f'), b.open, at('secret/f'))
        raises(PermissionError, errno.EACCES, at('pub/a'), b.open, at('pub/a'), 'w')
        raises(FileNotFoundError, errno.ENOENT, at('pub/none'), b.open, at('pub/none'))
        raises(FileNotFoundError, errno.ENOENT, at('own/no/such'), b.open, at('own/no/such'), 'w')
        raises(FileExistsError, errno.EEXIST, at('own/there'), b.open, at('own/there'), 'x')
        raises(IsADirectoryError, errno.EISDIR, at('pub/sub'), b.open, at('pub/sub'))
        raises(IsADirectoryError, errno.EISDIR, at('own/dir'), b.open, at('own/dir'), 'w')
        for path in ('relative', '', './x', '/' + 'x' * 4095):
            raises(OSError, errno.EINVAL, path, b.open, path)
        for path in ('/a/../b', '//a', '/a/', '/a/./b'):
            raises(OSError, errno.EINVAL, path, b.open, path)
        for flags in (os.O_TMPFILE | os.O_RDWR, os.O_DIRECT, 3, os.O_APPEND, os.O_NOATIME):
            raises(OSError, errno.EINVAL, at('own/there'), b.open_fd, at('own/there'), flags)
        same(read(at('own/there')), 'there\n')


@test('real', *kinds)
def test_create_only_where_missing(kind):
    """vault: write and append, drop: create and append; neither more."""
    with broker(kind) as b:
        for mode, size in (('w', 3), ('a', 6), ('w', 3)):
            with b.open(at('vault/log'), mode) as file:
                file.write('new')
                file.flush()
                same(os.fstat(file.fileno()).st_size, size)
        raises(PermissionError, errno.EACCES, at('vault/none'), b.open, at('vault/none'), 'a')
        raises(PermissionError, errno.EACCES, at('vault/none'), b.open, at('vault/none'), 'w')
        name = at('drop/' + kind)
        with b.open(name, 'a') as file:
            file.write('one\n')
        with b.open(name, 'a') as file:
            file.write('two\n')
        same(os.stat(name).st_size, 8)
        raises(PermissionError, errno.EACCES, name, b.open, name, 'w')


@test('real', *kinds)
def test_permissions_and_umask(kind):
    mask = os.umask(0o027)
    try:
        with broker(kind) as b:
            for permissions, want in ((0o666, 0o640), (0o600, 0o600), (0o6777, 0o640), (0, 0)):
                name = at('own/mode-%o' % permissions)
                if os.path.exists(name):
                    os.unlink(name)
                b.open(name, 'x', permissions=permissions).close()
                same(os.stat(name).st_mode & 0o7777, want)
                same(os.stat(name).st_uid, os.getuid())
    finally:
        os.umask(mask)


@test('real', *kinds)
def test_descriptors(kind):
    with broker(kind) as b:
        fd = b.open_fd(at('pub/a'))
        same(os.get_inheritable(fd), False)
        same(os.read(fd, 9), b'pub a\n')
        os.close(fd)
        fd = b.open_fd(at('pub/sub'), os.O_RDONLY | os.O_DIRECTORY)
        same(sorted(os.listdir(fd)), ['c', 'd'])
        above = os.open('..', os.O_RDONLY, dir_fd=fd)
        same(sorted(os.listdir(above)), ['c', 'd'])
        os.close(above)
        os.close(fd)
        raises(ValueError, None, None, b.open_fd, '/a\0b')


@test('real', *kinds)
def test_many(kind):
    with broker(kind) as b:
        paths = [at('many/%d' % i) for i in range(600)]
        paths[7], paths[300], paths[599] = at('secret/f'), at('pub/none'), 'relative'
        files = b.open_many(paths)
        same(len(files), 600)
        for i, file in enumerate(files):
            if i in (7, 300, 599):
                kinds_of = {7: PermissionError, 300: FileNotFoundError, 599: OSError}
                same((type(file), file.filename), (kinds_of[i], paths[i]))
            else:
                same((file.name, file.read()), (paths[i], '%d\n' % i))
                file.close()
        same(b.open_many([]), [])
        same([type(file) for file in b.open_many(['relative'])], [OSError])
        same([type(file) for file in b.open_many(name for name in [at('pub/sub')])], [IsADirectoryError])


@test('real', *kinds)
def test_many_long_ones(kind):
    """More than a message holds, though they are fewer than 253."""
    with broker(kind) as b:
        path = at('pub/') + 'x' * 200 + '/' + '/'.join(['y' * 200] * 18)
        same({type(file) for file in b.open_many([path] * 60)}, {FileNotFoundError})


@test('real', *kinds)
def test_many_modes(kind):
    with broker(kind) as b:
        for name in ('m1', 'm2'):
            if os.path.exists(at('own/' + name)):
                os.unlink(at('own/' + name))
        files = b.open_many([(at('own/m1'), 'w'), at('pub/a'), (at('own/m2'), 'xb'), (at('own/there'), 'x'),
                             (at('vault/none'), 'a')])
        same([type(file) for file in files], [io.TextIOWrapper, io.TextIOWrapper, io.BufferedWriter,
                                              FileExistsError, PermissionError])
        for file in files[:3]:
            file.close()
        expect(os.path.exists(at('own/m1')) and os.path.exists(at('own/m2')))


@test('real', *kinds)
def test_many_of_nothing_stays_open(kind):
    with broker(kind) as b:
        paths = [at('many/%d' % i) for i in range(300)]
        raises(LookupError, None, None, b.open_many, paths, encoding='no such')
        raises(ValueError, None, None, b.open_many, paths + [at('pub/\0')])
        raises(ValueError, None, None, b.open_many, paths + [(at('pub/a'), 'q')])
        raises(ValueError, None, None, b.open_many, paths, 'rb', encoding='ascii')
        raises(TypeError, None, None, b.open_many, paths + [7])
        raises(ValueError, None, None, b.open_many, paths + [(at('pub/a'), 'r', 'x')])


@test('real', *kinds)
def test_no_room(kind):
    with broker(kind) as b:
        connection = b._sock.fileno()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = os.dup(0)
        os.close(top)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        try:
            for _ in range(5):
                raises(OSError, errno.EMFILE, at('pub/a'), b.open, at('pub/a'))
            results = b.open_many([at('many/%d' % i) for i in range(300)])
            same({result.errno for result in results}, {errno.EMFILE})
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 100, hard))
            same({type(result) for result in b.open_many([at('many/%d' % i) for i in range(200)])}, {OSError})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with b.open(at('pub/a')) as file:
            same(file.read(), 'pub a\n')
        same(b._sock.fileno(), connection)


@test('real', *kinds)
def test_questions(kind):
    with broker(kind) as b:
        for name, mode, want in (('pub/a', 'r', True), ('pub/a', 'w', False), ('own/x', 'x', True),
                                 ('vault/x', 'a', True), ('vault/x', 'x', False), ('secret/f', 'r', False),
                                 ('pub/sub', os.O_DIRECTORY, True)):
            same(b.check(at(name), mode), want)
        raises(OSError, errno.EINVAL, 'relative', b.check, 'relative')
        raises(ValueError, None, None, b.check, at('pub/a'), 'q')
        lines = b.list()
        expect('read,list %s' % at('pub/**') in lines and 'deny read,write,append,create,list,stat %s' %
               at('pub/denied') in lines, lines)
        hello = b.hello()
        same(hello[:3], (1, 65536, 253))
        same(b.server().uid, 0)
        expect('fob.Broker' in repr(b))
        same(b._sock.type, kinds[kind])


@test('real', *kinds)
def test_closed(kind):
    b = broker(kind)
    file = b.open(at('pub/a'))
    with b:
        pass
    b.close()
    same(file.read(), 'pub a\n')
    file.close()
    raises(ValueError, None, None, b.open, at('pub/a'))
    raises(ValueError, None, None, b.hello)


@test('real', *kinds)
def test_fork(kind):
    with broker(kind) as b:
        b._lock.acquire()  # as a thread would that is not in the child
        def ask():
            same(read_through(b), 'pub a\n')
        expect(child(ask))
        b._lock.release()
        same(read_through(b), 'pub a\n')


def read_through(b):
    with b.open(at('pub/a')) as file:
        return file.read()


@test('real', *kinds)
def test_threads(kind):
    wrong = []
    with broker(kind) as b:
        def ask(number):
            for i in range(100):
                name = (number * 100 + i) % 600
                with b.open(at('many/%d' % name)) as file:
                    if file.read() != '%d\n' % name:
                        wrong.append(name)
                if b.check(at('secret/f')):
                    wrong.append('secret')
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    same(wrong, [])


@test('real')
def test_module():
    for kind in kinds:
        os.environ['FOB_SOCKET'] = at(kind)
        with fob.open(at('pub/a')) as file:
            same(file.read(), 'pub a\n')
        with fob.open(at('own/module'), 'w', permissions=0o600) as file:
            file.write('x')
        raises(PermissionError, errno.EACCES, at('secret/f'), fob.open, at('secret/f'))
        same([each._path for each in fob._kept.values()], [at(kind)])
    expect(child(lambda: fob.open(at('pub/a')).close()))
    os.environ['FOB_SOCKET'] = at('none')
    raises(FileNotFoundError, errno.ENOENT, at('none'), fob.open, at('pub/a'))
    del os.environ['FOB_SOCKET']
    fob._kept.clear()


@test('real')
def test_no_broker():
    raises(FileNotFoundError, errno.ENOENT, at('none'), fob.Broker, at('none'))
    raises(ConnectionRefusedError, errno.ECONNREFUSED, at('own/there'), fob.Broker, at('own/there'))
    raises(OSError, errno.ENAMETOOLONG, '/' + 'x' * 108, fob.Broker, '/' + 'x' * 108)
    raises(OSError, errno.EINVAL, '', fob.Broker, '')
    raises(ConnectionRefusedError, errno.ECONNREFUSED, '@no such', fob.Broker, '@no such')
    raises(TypeError, None, None, fob.Broker, 7)


# ---- a broker that follows a script ----

HEADER = struct.Struct('=4sIHHI')
RESULT = struct.Struct('=iIII')
NO_FD = 0xFFFFFFFF


class Fake:
    """Serves in a process of its own: the first requests by the script, all others honestly."""

    def __init__(self, kind, script):
        self.path = '%s/fake' % place
        if os.path.exists(self.path):
            os.unlink(self.path)
        listener = socket.socket(socket.AF_UNIX, kinds[kind])
        listener.bind(self.path)
        listener.listen(8)
        self.count_in, count_out = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.serve(listener, script, count_out)
            finally:
                os._exit(1)
        listener.close()
        os.close(count_out)

    def serve(self, listener, script, count_out):
        script = list(script)
        while True:
            connection, _ = listener.accept()
            try:
                while self.answer(connection, script, count_out):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                pass
            connection.close()

    @staticmethod
    def answer(connection, script, count_out):
        data = connection.recv(65536)
        if not data:
            return False
        os.write(count_out, b'.')
        kind, count, number = HEADER.unpack_from(data)[2:]
        step = script.pop(0) if script else honest
        return step(connection, kind, count, number)

    def requests(self):
        os.set_blocking(self.count_in, False)
        try:
            return len(os.read(self.count_in, 9999))
        except BlockingIOError:
            return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.count_in)


def send(connection, data, n_fds=0):
    """With n descriptors, of a file that one recognizes."""
    null = os.open('/dev/null', os.O_RDONLY)
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [null] * n_fds))] if n_fds else []
    connection.sendmsg([data], control)
    os.close(null)
    return True


def reply(kind, number, results, magic=b'FOB1', length=None, count=None, more=b''):
    body = b''.join(RESULT.pack(*result) for result in results) + more
    return HEADER.pack(magic, HEADER.size + len(body) if length is None else length, kind,
                       len(results) if count is None else count, number) + body


def successes(count):
    return [(0, 3, i, 0) for i in range(count)]


def honest(connection, kind, count, number):
    if kind == 4:
        return send(connection, reply(0x8004, number, [], more=struct.pack('=IIII', 1, 65536, 253, 5)))
    if kind == 3:
        return send(connection, reply(0x8003, number, [], more=b'read /srv/**\n'))
    if kind == 2:
        return send(connection, reply(0x8002, number, [(0, 3, NO_FD, 0)] * count))
    return send(connection, reply(0x8001, number, successes(count)), count)


def lie(n_fds=None, results=None, more_id=0, kind=0x8001, cut=None, **named):
    """An answer to an OPEN that is wrong in something, and then the end."""
    def step(connection, _, count, number):
        data = reply(kind, number + more_id, successes(count) if results is None else results, **named)
        send(connection, data[:cut], count if n_fds is None else n_fds)
        return False
    return step


LIES = {
    'magic': lie(magic=b'FOB2'),
    'no reply': lie(kind=1),
    'reply to another type': lie(kind=0x8002),
    'id': lie(more_id=1),
    'id of before': lie(more_id=-1),
    'count': lie(count=1),
    'count 0': lie(count=0, results=[]),
    'too many results': lie(results=successes(4), n_fds=4),
    'index out of range': lie(results=[(0, 3, 0, 0), (0, 3, 1, 0), (0, 3, 3, 0)]),
    'index behind the last': lie(n_fds=2),
    'index twice': lie(results=[(0, 3, 0, 0), (0, 3, 0, 0), (0, 3, 1, 0)]),
    'index backwards': lie(results=[(0, 3, 2, 0), (0, 3, 1, 0), (0, 3, 0, 0)]),
    'no descriptors': lie(n_fds=0),
    'one too many': lie(n_fds=4),
    'descriptors for refusals': lie(results=[(13, 3, NO_FD, 0)] * 3),
    '253 descriptors': lie(n_fds=253),
    'an error with a descriptor': lie(results=[(0, 3, 0, 0), (13, 3, 1, 0), (0, 3, 2, 0)]),
    'a success without': lie(results=[(0, 3, 0, 0), (0, 3, NO_FD, 0), (0, 3, 1, 0)], n_fds=2),
    'a negative error': lie(results=[(0, 3, 0, 0), (-13, 3, NO_FD, 0), (0, 3, 1, 0)], n_fds=2),
    'reserved': lie(results=[(0, 3, 0, 0), (0, 3, 1, 1), (0, 3, 2, 0)]),
    'length 0': lie(length=0),
    'length of the header less 1': lie(length=15),
    'length 2 GiB': lie(length=1 << 31),
    'trailing bytes': lie(more=b'x'),
}
# A stream cannot tell these from a connection that broke.
CUTS = {
    'shorter than the header': lie(cut=8),
    'the header alone': lie(cut=16),
    'in a result': lie(cut=40),
    'length too large': lie(length=1000),
}


@test('fake', *[(kind, name) for kind in kinds for name in list(LIES) + list(CUTS)])
def test_lies_are_not_believed(kind, name):
    wanted = fob.ProtocolError
    if kind == 'stream' and name in CUTS:
        wanted = ConnectionResetError
    step = LIES.get(name) or CUTS[name]
    twice = [step, step] if wanted is ConnectionResetError else [step]  # reading is repeated once
    with Fake(kind, twice) as fake, fob.Broker(fake.path) as b:
        code = errno.ECONNRESET if wanted is ConnectionResetError else errno.EPROTO
        path = fake.path if wanted is ConnectionResetError else None
        before = descriptors()
        error = raises(wanted, code, path, b.open_many, ['/a', '/b', '/c'])
        expect(len(str(error)) > 20, error)
        error = None
        expect(not [fd for fd in descriptors() - before if os.readlink('/proc/self/fd/' + fd) == '/dev/null'])
        files = b.open_many(['/a', '/b', '/c'])  # on another connection
        same([file.name for file in files], ['/a', '/b', '/c'])
        for file in files:
            file.close()


@test('fake', *kinds)
def test_lies_to_questions(kind):
    def with_descriptors(connection, asked, count, number):
        results = [(0, 3, NO_FD, 0)] * count
        send(connection, reply(asked | 0x8000, number, results, more=b'' if count else bytes(16)), 5)
        return False
    for ask in (lambda b: b.list(), lambda b: b.hello(), lambda b: b.check('/x')):
        with Fake(kind, [with_descriptors]) as fake, fob.Broker(fake.path) as b:
            raises(fob.ProtocolError, errno.EPROTO, None, ask, b)
            expect(ask(b))
    def short_hello(connection, asked, _, number):
        return send(connection, reply(asked | 0x8000, number, [], more=bytes(15)))
    with Fake(kind, [short_hello]) as fake, fob.Broker(fake.path) as b:
        raises(fob.ProtocolError, errno.EPROTO, None, b.hello)


@test('fake')
def test_too_long():
    def long(connection, _, count, number):
        return send(connection, reply(0x8001, number, [], more=bytes(70000)), count)
    with Fake('sock', [long]) as fake, fob.Broker(fake.path) as b:
        raises(fob.ProtocolError, errno.EPROTO, None, b.open, '/x')


@test('fake')
def test_stream_in_pieces():
    """Byte by byte, the descriptors with any of them, or in two parts; and two replies at once."""
    def pieces(*where):
        def step(connection, _, count, number):
            data = reply(0x8001, number, successes(count))
            for i in range(len(data)):
                send(connection, data[i:i + 1], where.count(i))
                time.sleep(0.0005)
            return True
        return step
    for where in ((0, 0), (1, 1), (15, 15), (16, 16), (47, 47), (0, 30)):
        with Fake('stream', [pieces(*where)]) as fake, fob.Broker(fake.path) as b:
            files = b.open_many(['/a', '/b'])
            same([file.name for file in files], ['/a', '/b'])
            for file in files:
                file.close()
            b.open('/c').close()
            same(fake.requests(), 2)
    def two(connection, kind, count, number):
        data = struct.pack('=IIII', 1, 65536, 253, 5)
        second = reply(0x8004, number + 1, [], more=data[::-1])
        return send(connection, reply(0x8004, number, [], more=data) + second)
    with Fake('stream', [two]) as fake, fob.Broker(fake.path) as b:
        same(b.hello().generation, 5)


def hang_up(*_):
    return False


@test('fake', *kinds)
def test_what_is_repeated(kind):
    with Fake(kind, [hang_up]) as fake, fob.Broker(fake.path) as b:
        b.open('/x').close()
        same(fake.requests(), 2)
    with Fake(kind, [hang_up, hang_up]) as fake, fob.Broker(fake.path) as b:
        raises(ConnectionResetError, errno.ECONNRESET, fake.path, b.open, '/x')
        same(fake.requests(), 2)
    for mode in ('w', 'a', 'x', 'r+'):
        with Fake(kind, [hang_up]) as fake, fob.Broker(fake.path) as b:
            raises(ConnectionResetError, errno.ECONNRESET, fake.path, b.open, '/x', mode)
            same(fake.requests(), 1)
            b.open('/x', mode).close() if mode[0] != 'r' else b.open('/x').close()
    with Fake(kind, [hang_up]) as fake, fob.Broker(fake.path) as b:
        raises(ConnectionResetError, errno.ECONNRESET, fake.path, b.open_many, ['/a', ('/b', 'w')])
        same(fake.requests(), 1)
    with Fake(kind, [honest, hang_up, hang_up]) as fake, fob.Broker(fake.path) as b:
        paths = ['/%d' % i for i in range(300)]
        raises(ConnectionResetError, errno.ECONNRESET, fake.path, b.open_many, paths)
        same(fake.requests(), 3)


@test('fake', *kinds)
def test_gone_for_good(kind):
    fake = Fake(kind, [])
    with fob.Broker(fake.path) as b:
        fake.__exit__()
        raises(ConnectionRefusedError, errno.ECONNREFUSED, fake.path, b.open, '/x')
        with Fake(kind, []):
            b.open('/x').close()


class Interrupt(BaseException):
    pass


def interrupt(*_):
    raise Interrupt


@test('fake', *kinds)
def test_interrupted(kind):
    """By an exception of a signal's handler: what is answered later belongs to nobody."""
    def late(connection, kind, count, number):
        time.sleep(0.3)
        return honest(connection, kind, count, number)
    old = signal.signal(signal.SIGALRM, interrupt)
    with Fake(kind, [late]) as fake, fob.Broker(fake.path) as b:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            b.open('/x').close()
            expect(False, 'not interrupted')
        except Interrupt:
            pass
        expect(b._sock is None)
        same(b.check('/x'), True)
    signal.signal(signal.SIGALRM, lambda *_: None)  # one that returns: the call goes on
    with Fake(kind, [late]) as fake, fob.Broker(fake.path) as b:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        b.open('/x').close()
    signal.signal(signal.SIGALRM, old)


@test('fake', *kinds)
def test_default_timeout_means_nothing(kind):
    def late(connection, kind, count, number):
        time.sleep(0.2)
        return honest(connection, kind, count, number)
    with Fake(kind, [late]) as fake:
        socket.setdefaulttimeout(0.05)
        try:
            with fob.Broker(fake.path) as b:
                b.open('/x').close()
        finally:
            socket.setdefaulttimeout(None)


@test('fake')
def test_errors_are_passed_on():
    def refuse(code):
        def step(connection, _, count, number):
            return send(connection, reply(0x8001, number, [(code, 3, NO_FD, 0)] * count))
        return step
    codes = ((errno.EACCES, PermissionError), (errno.EPERM, PermissionError), (errno.ETIMEDOUT, TimeoutError),
             (errno.EAGAIN, BlockingIOError), (errno.ENOSPC, OSError), (errno.ELOOP, OSError), (999, OSError))
    for code, kind in codes:
        with Fake('sock', [refuse(code)]) as fake, fob.Broker(fake.path) as b:
            raises(kind, code, '/x', b.open, '/x')


# ---- somebody else's ----

def test_refused(path, uid):
    error = raises(PermissionError, errno.EPERM, path, fob.Broker, path)
    expect('served by uid %d' % uid in str(error), error)
    for text in ('', '0', '%d0' % uid, 'any'):
        os.environ['FOB_SERVER'] = text
        raises(PermissionError, errno.EPERM, path, fob.Broker, path)
    os.environ['FOB_SERVER'] = str(uid)
    with fob.Broker(path) as b:
        same(b.server().uid, uid)


def serve(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(64)
    print('ready', flush=True)
    signal.pause()


def main():
    global place
    what, place = sys.argv[1], sys.argv[2]
    if what == 'serve':
        serve(place)
    elif what == 'refused':
        test_refused(place, os.stat(place).st_uid)
    else:
        run(what)
    print('%d passed, %d failed' % (passed, failed))
    sys.exit(failed != 0)


if __name__ == '__main__':
    main()
