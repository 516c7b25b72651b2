# SPDX-License-Identifier: Apache-2.0
"""The book that give_way.c reads and writes (book.h says what stands in it), and lists of points to fail at.

    book.record(CALLS)
    run_session(url, book=book)
    for point in Points(book.points(), seconds=10):
        book.fail(CALLS, point)
        run_session(url, book=book)

A point is a place and how often it had been passed. The short form takes each place, at one of its passes, in an order
that the seed decides, until its seconds are over; the long form takes each pass.
"""

import errno
import functools
import mmap
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, wait_until
from knit_witness import LONG, descriptors, seed

MEMORY, CALLS, INTERRUPTS = 1, 2, 4
KINDS = MEMORY | CALLS | INTERRUPTS
FRAMES, ENTRIES = 24, 65536
HEAD = struct.Struct('=IIIIQIIIiI24s')
STACK_AT, ENTRIES_AT, ENTRY = 68, 1608, struct.Struct('=Q24s')
DEPTH = 10

# Where a failure may cost nothing that anybody is told of, by the functions nearest to it, and why. Whatever else fails
# without being told is wrong.
NEAR = 4
SILENT = {
    # Made again, or made otherwise.
    'knit_poll_fd_open': 'the caller is told by -1, and the session asks again',
    'knit_bell_swallow': 'the bell stays readable and is read at the next turn',
    'receive': 'the kernel keeps the bytes; they are read at the next turn',
    'knit_control_receive': 'the same of a control message',
    'knit_control_send': 'the message stays in its queue and is sent later',
    'knit_host_session_bell': 'the message that wanted the descriptor stays in its queue',
    'on_readable': 'the connection waits to be accepted at the next turn',
    'knit_output_flush': 'the output stays where it is until the socket is written to again',
    'refer': 'what cannot be referred to is copied',
    'wake_caller': 'the ring is lost, and whoever slept looks by himself within 50 ms',
    'make_base': 'libevent takes another of its ways to wait',
    'new_base': 'the same',
    'open_module': 'the dynamic linker does without what it would have remembered',
    'connect_tcp': 'the C library does with less room for a name',
    # Wished for, not needed.
    'connect_one': 'a connection without TCP_NODELAY is slower, not wrong',
    'prepare_tcp': 'the same on the other side',
    'knit_endpoint_listen': 'the same of the one that listens',
    'open_spare': 'without a spare descriptor those who come too many wait',
    'maps_all': 'user numbers are taken to be translated, with which less is allowed',
    # Told by other means.
    'knit_connection_open': 'the connection is closed, which its other side sees; the harness asks again',
    'knit_transport_credentials': 'the same',
    'make_output': 'the same',
    'knit_output_result': 'the same',
    'write_line': 'a log that cannot be written to cannot tell that',
    'put_head': 'the C library does without what it would have remembered of the time zone',
    # Closed more narrowly.
    'add_new_calls': 'a system call whose name cannot be had is refused like an unknown one',
    'grant': 'a system folder that cannot be opened is not granted',
    'grant_self': 'the same of the own folder in /proc',
    # Room for speed, or what another time makes good.
    'knit_ready_file_write': 'stdio writes without a buffer, asprintf takes less room at once',
    'knit_socket_file_open': 'asprintf takes less room at once',
    'read_line': 'stdio reads without a buffer',
    'knit_socket_file_close': 'a socket file that cannot be removed is found stale by the next start',
}
# Of functions whose name says too little: with one further out.
SILENT_BELOW = {
    ('grow', 'knit_buffer_append'): 'the words of an error that was wanted, told with fewer of them',
    ('add', 'finalize_serving'): 'a notice that the log does without; the stats have the death',
    ('add', 'knit_death_finalize'): 'the same, where that is a part of it',
    ('add', 'handle_ready'): 'the same of a worker that is ready',
    ('add', 'end_stop'): 'the same of the end of a pool',
    ('start', 'knit_service_run'): 'a ready file of an earlier run that cannot be removed is written over',
}

# What sanitizers write.
COMPLAINT = re.compile(r'(ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion .* failed|terminated by signal).*')


def text(field):
    return field.split(b'\0', 1)[0].decode(errors='replace')


class Book:
    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix='knit-ground-')
        self.file.truncate(ENTRIES_AT + ENTRIES * ENTRY.size)
        self.memory = mmap.mmap(self.file.fileno(), 0)

    def environment(self, program):
        """For a program of that name; others that inherit it are left alone."""
        options = os.environ.get('ASAN_OPTIONS', '')
        return {'LD_PRELOAD': os.environ['KNIT_GIVE_WAY'], 'KNIT_GROUND': self.file.name,
                'KNIT_GROUND_PROGRAM': program,
                'ASAN_OPTIONS': options + ':verify_asan_link_order=0:exitcode=99:quarantine_size_mb=1'}

    def write(self, armed, kinds, place=0, nth=0):
        HEAD.pack_into(self.memory, 0, 0, kinds, DEPTH, nth, place, 0, 0, 0, 0, 0, b'')
        struct.pack_into('=I', self.memory, 0, armed)

    def record(self, kinds):
        self.write(1, kinds)

    def fail(self, kinds, point):
        self.write(1, kinds, point[0], point[1])

    def disarm(self):
        struct.pack_into('=I', self.memory, 0, 0)

    def head(self):
        return HEAD.unpack_from(self.memory, 0)

    def points(self):
        """Each call that was counted: (place, nth, name)."""
        passed, points = {}, []
        for i in range(min(self.head()[6], ENTRIES)):
            place, name = ENTRY.unpack_from(self.memory, ENTRIES_AT + i * ENTRY.size)
            passed[place] = passed.get(place, 0) + 1
            points.append((place, passed[place], text(name)))
        return points

    def failed(self):
        """What failed, as a text of some lines; None when nothing did."""
        pid, error, frames, name = self.head()[7:]
        if pid == 0:
            return None
        lines = [f'{text(name)}: {os.strerror(error)} in process {pid}']
        for i in range(min(frames, FRAMES)):
            at = STACK_AT + 64 * i
            lines.append('    ' + text(self.memory[at:at + 64]))
        return '\n'.join(lines)


class Points:
    """Those to fail at: iterating gives them until the seconds are over."""

    def __init__(self, points, seconds):
        number = seed()
        randoms = random.Random(number)
        self.end = None if LONG else time.monotonic() + seconds * SLOWDOWN
        if LONG:
            points = list(points)
        else:
            by_place = {}
            for point in points:
                by_place.setdefault(point[0], []).append(point)
            points = [randoms.choice(passes) for passes in by_place.values()]
        print(f'{len(points)} points', flush=True)
        randoms.shuffle(points)
        self.points = points

    def __iter__(self):
        for done, point in enumerate(self.points):
            if self.end is not None and time.monotonic() > self.end:
                print(f'{done} of {len(self.points)} places in this run', flush=True)
                return
            yield point


@functools.lru_cache(None)
def functions_at(file, offset):
    """The names of the functions there, the inlined ones first; none of a library that is not ours."""
    path = next((os.environ[name] for name in PROGRAMS if os.path.basename(os.environ[name]).startswith(file)), None)
    if path is None:
        return ()
    named = subprocess.run(['addr2line', '-sife', path, hex(int(offset, 16) - 1)], text=True, stdout=subprocess.PIPE,
                           timeout=PATIENCE).stdout
    return tuple(named.splitlines()[::2])


def may_be_silent(failed):
    """Whether it is allowed that nobody was told of that failure."""
    name, frames = failed.split(':')[0], []
    if os.strerror(errno.EINTR) in failed.splitlines()[0]:
        # What was interrupted is done again.
        return True
    for file, offset in re.findall(r'^    (.*)\+(0x[0-9a-f]+)$', failed, re.MULTILINE):
        frames += [function for function in functions_at(file, offset) if function not in (name, '_start', '??')]
    if not frames or frames[0] == 'main':
        # The C library's own, before or beside us, and the session's printing.
        return True
    return not SILENT.keys().isdisjoint(frames[:NEAR]) or any(
        frames[0] == near and far in frames for near, far in SILENT_BELOW)


class Findings:
    """Counts what became of the failures, tells each that was not survived or not told, and fails the test at its end if
    there was one. Who told of what is known by names, so without binutils silence is counted alone."""

    SHOWN = 20

    def __init__(self, case, title):
        self.case, self.title = case, title
        self.book = Book()
        self.met = self.refused = self.wrong = 0
        self.has_names = shutil.which('addr2line') is not None
        if not self.has_names:
            print('there is no addr2line: whether a failure may be silent is not looked at', flush=True)

    def note(self, point, is_right, is_refused, story):
        failed = self.book.failed()
        self.met += failed is not None
        self.refused += failed is not None and is_refused and is_right
        if is_right and failed is not None and not is_refused and self.has_names and not may_be_silent(failed):
            is_right, story = False, f'nobody was told of it\n{story}'
        if not is_right:
            self.wrong += 1
            # At once: the long form takes long.
            if self.wrong <= self.SHOWN:
                print(f'point {point[0]}:{point[1]} {point[2]}\n{with_names(failed or "nothing failed")}\n{story}', flush=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        print(f'{self.title}: {self.met} failures, {self.refused} refused, {self.met - self.refused - self.wrong} '
              f'without a trace, {self.wrong} wrong', flush=True)
        if kind is None and self.wrong:
            self.case.fail(f'{self.wrong} failures were not survived, or not told')


def run_session(url, *arguments, book=None):
    """Exit status and output of session.c."""
    environment = {**os.environ, **(book.environment('session') if book else {})}
    done = subprocess.run([os.environ['KNIT_GROUND_SESSION'], url, *arguments], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * PATIENCE)
    return done.returncode, done.stdout


PROGRAMS = ('KNIT_DAEMON', 'KNIT_WORKER', 'KNIT_GROUND_SESSION', 'KNIT_GROUND_LIBRARY')


def with_names(stack):
    """The stack with the names of its functions, where binutils are there to tell them."""
    programs = [os.environ[name] for name in PROGRAMS]
    lines = []
    for line in stack.splitlines():
        match = re.fullmatch(r'    (.*)\+(0x[0-9a-f]+)', line)
        path = next((path for path in programs if match and os.path.basename(path).startswith(match[1])), None)
        if path:
            try:
                named = subprocess.run(['addr2line', '-sfe', path, hex(int(match[2], 16) - 1)], text=True,
                                       stdout=subprocess.PIPE, timeout=PATIENCE).stdout.split()
                line += ' ' + ' '.join(named)
            except OSError:
                pass
        lines.append(line)
    return '\n'.join(lines)


# A line that says what failed.
LOG_REASON = re.compile(r'level=error|reason="[^"]|error=|knitting(d|-worker): ')
WRONG = (AssertionError, OSError, EOFError, KeyError, subprocess.TimeoutExpired)


def has_workers(daemon, without=None):
    """Whether all of them serve, none as that process. The question itself may be refused once."""
    try:
        return all(lane['state'] == 'serving' and lane['pid'] != without for lane in daemon.stats()['lanes'])
    except (EOFError, OSError):
        return False


class Failing:
    """A daemon for a while, and what it has to show for the failures in it."""

    def __init__(self, book, **options):
        self.book, self.seen, self.log, self.said = book, 0, '', ''
        self.daemon = Daemon(wait=False, **options)

    def news(self):
        """What came into its log since it was asked last."""
        log = self.daemon.log()[self.seen:]
        self.seen += len(log)
        return log

    def reasons(self, log):
        """The lines that say what failed, without what differs from one time to the next."""
        return {re.sub(r'[0-9]+', '0', line) for line in log.splitlines() if LOG_REASON.search(line)}

    def has_started(self):
        """Whether it serves. If not, it must have said why, in one sentence."""
        daemon = self.daemon
        wait_until(lambda: os.path.exists(daemon.ready_file) or daemon.process.poll() is not None, 'a start', 3 * PATIENCE)
        if daemon.process.poll() is None:
            daemon.wait_ready()
            return True
        says = [line for line in daemon.log().splitlines() if line.startswith('knittingd: ') and len(line) > 15]
        assert daemon.process.returncode in (1, 2) and says, f'refused to start with {daemon.process.returncode}'
        return False

    def all_works(self):
        """A full set of workers, every transport."""
        wait_until(lambda: has_workers(self.daemon), 'all workers')
        for url in self.daemon.urls:
            status, output = run_session(url, '--strict')
            assert status == 0, f'{url}: status {status}\n{output}'

    def end(self):
        """Asks it to end, removes its folder."""
        self.book.disarm()
        try:
            status = self.daemon.end()
            complaint = COMPLAINT.search(self.daemon.log())
            assert complaint is None, complaint
            return status
        finally:
            self.said = self.daemon.log()
            self.log = self.said[-6000:]
            shutil.rmtree(self.daemon.dir, ignore_errors=True)


class Scenes(Case):
    """What daemon and workers have in common. A test says with fresh() where the failures are."""

    def fresh(self, book):
        raise NotImplementedError

    def begin(self, book):
        """One in which nothing has failed yet."""
        failing = self.fresh(book)
        self.assertTrue(failing.has_started(), failing.news())
        failing.all_works()
        failing.news()
        return failing

    def starts_are_refused_with_a_sentence_or_succeed(self, title, seconds):
        with Findings(self, title) as findings:
            book = findings.book
            book.record(KINDS)
            failing = self.fresh(book)
            self.assertTrue(failing.has_started(), failing.news())
            points = book.points()
            failing.all_works()
            failing.end()
            usual = failing.reasons(failing.said)
            for point in Points(points, seconds):
                book.fail(KINDS, point)
                failing, is_refused, why = self.fresh(book), False, ''
                try:
                    is_refused = not failing.has_started()
                    book.disarm()
                    if not is_refused:
                        failing.all_works()
                except WRONG as wrong:
                    why = repr(wrong)
                self.conclude(findings, failing, point, is_refused, why, usual)

    def conclude(self, findings, failing, point, is_refused, why, usual=frozenset()):
        """The end of a daemon that was there for one point. One that was refused has ended before. What it says beyond
        the usual is the telling of the failure."""
        ended = failing.daemon.process.poll() is not None
        try:
            status = failing.end()
            if status != 0 and not ended:
                why += f' ended with {status}'
        except WRONG as wrong:
            why += repr(wrong)
        is_told = is_refused or not failing.reasons(failing.said) <= usual
        findings.note(point, why == '', is_told, f'{why}\n{failing.log}')

    def scene(self, daemon):
        """A session over each transport, then a worker is killed and replaced. What was refused."""
        refused, killed = '', None
        for url in daemon.urls:
            status, output = run_session(url)
            self.assertEqual(status, 0, f'{url}\n{output}')
            refused += ''.join(line for line in output.splitlines(True) if line.startswith('refused'))
        with daemon.unix() as rpc:
            try:
                killed = rpc.call('$/stats')['lanes'][0]['pid']
                os.kill(killed, signal.SIGKILL)
            except (EOFError, OSError):
                refused += 'the connection was closed\n'
        wait_until(lambda: has_workers(daemon, killed), 'workers')
        return refused

    def serving_goes_on(self, title, seconds):
        with Findings(self, title) as findings:
            book = findings.book
            failing = self.begin(book)
            # A scene has deaths of its own, which the log tells, the first ones otherwise than those in a row.
            for _ in range(3):
                self.scene(failing.daemon)
            book.record(KINDS)
            self.scene(failing.daemon)
            book.disarm()
            failing.all_works()
            points = book.points()
            before = descriptors(failing.daemon.pid)
            usual = failing.reasons(failing.daemon.log())
            failing.news()
            for point in Points(points, seconds):
                why, told = '', ''
                book.fail(KINDS, point)
                try:
                    told = self.scene(failing.daemon)
                    book.disarm()
                    failing.all_works()
                    wait_until(lambda: descriptors(failing.daemon.pid) <= before, f'{before} descriptors')
                except WRONG as wrong:
                    why = repr(wrong)
                news = failing.news()
                is_told = told != '' or not failing.reasons(news) <= usual
                findings.note(point, why == '', is_told, f'{why}\n{told}{news[-6000:]}')
                if why != '':
                    self.conclude(findings, failing, ('the end after that', 0, ''), False, '')
                    failing = self.begin(book)
                    before = descriptors(failing.daemon.pid)
            self.conclude(findings, failing, ('the end after all of them', 0, ''), False, '')
