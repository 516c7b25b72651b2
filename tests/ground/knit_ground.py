# SPDX-License-Identifier: Apache-2.0
"""The book that give_way.c reads and writes (book.h describes it), and lists of points to fail at.

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
import http.client
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
import urllib.request

from knit_harness import PATIENCE, SLOWDOWN, Case, Daemon, wait_until
from knit_witness import LONG, descriptors, seed

MEMORY, CALLS, INTERRUPTS = 1, 2, 4
KINDS = MEMORY | CALLS | INTERRUPTS
FRAMES, ENTRIES = 24, 65536
HEAD = struct.Struct('=IIIIQIIIiI24s')
STACK_AT, ENTRIES_AT, ENTRY = 68, 1608, struct.Struct('=Q24s')
DEPTH = 10

# That of binutils does not see what clang has inlined.
ADDR2LINE = os.environ['KNIT_ADDR2LINE']

# Where a failure may be left unreported, by the functions nearest to it, and why. Any other failure that is not reported
# is wrong.
NEAR = 4
SILENT = {
    # Tried again, or done in another way.
    'knit_poll_fd_open': 'the caller gets -1, and the session tries again',
    'knit_bell_swallow': 'the bell stays readable and is read at the next turn',
    'receive': 'the kernel keeps the bytes; they are read at the next turn',
    'knit_control_receive': 'the same of a control message',
    'knit_control_read_report': 'the same of a message that a worker sent',
    'knit_control_send': 'the message stays in its queue and is sent later',
    'knit_loop_bell_copy': 'the message that needs the descriptor stays in its queue',
    'on_readable': 'the connection waits to be accepted at the next turn',
    'knit_output_flush': 'the output stays in its buffer until the socket is written to again',
    'knit_stages_take': 'replies gather in an evbuffer instead of a stage',
    'refer': 'bytes that cannot be referred to are copied',
    'wake_caller': 'the wake-up is lost, and the caller looks by itself within 50 ms',
    'knit_lane_wake_callers': 'the same, inlined',
    'make_base': 'libevent uses another of its backends',
    'knit_loop_new_base': 'the same',
    'open_module': 'the dynamic linker works without its cache',
    'look_up': 'the C library uses a smaller buffer for a name',
    'knit_departed_add': 'what its caller keeps is taken back at once instead of being counted',
    # Useful, not needed.
    'offer_to_oom_killer': 'the kernel then ends the worker no sooner than the daemon',
    'by_affinity': 'the number of processors is that of the machine',
    'least_of': 'a quota that cannot be read is none',
    'knit_endpoint_try': 'an address is tried without the option that the listening socket will have',
    'knit_leftovers_begin': 'without a copy of its name the locale stays as a task leaves it',
    'step_tcp': 'a connection without TCP_NODELAY is slower, not wrong',
    'is_unix': 'descriptors that come unasked are closed by the kernel',
    'knit_transport_want_fds': 'those that come unasked are closed by the library',
    'close_received': 'the close may wait, as its sender meant it to',
    'prepare_tcp': 'a connection without TCP_NODELAY is slower, on the other side too',
    'knit_endpoint_listen': 'the same of the listening socket',
    'limit_wait': 'accept() waits only if another process takes the flag of the socket away',
    'open_spare': 'without a spare descriptor, connections over the limit wait',
    'maps_all': 'user ids are assumed to be translated, which allows less',
    # Reported by other means.
    'knit_endpoint_peer_credentials': 'its peer is nobody, whom less is allowed and who is told so',
    'knit_endpoint_peer_tenant': 'its peer shares what there is with those that have no address or user',
    'knit_endpoint_peer_name': 'the log has no name for its peer',
    'write_line': 'a log that cannot be written to cannot report that',
    'set_variable': 'the C library puts the variable into the environment without remembering it',
    'knit_log_line_time': 'the C library works without its cache of the time zone',
    # More is denied.
    'add_new_calls': 'a system call whose number is not found is refused like an unknown one',
    'grant': 'a system folder that cannot be opened is not granted',
    'grant_self': 'the same of the own folder in /proc',
    # Buffers for speed, or repaired at another time.
    'knit_ready_file_write': 'stdio writes without a buffer, asprintf allocates less at once',
    'knit_socket_file_open': 'asprintf allocates less at once',
    'read_line': 'stdio reads without a buffer',
    'knit_ready_file_remove': 'a ready file that cannot be removed is written over by the next start',
    'knit_socket_file_close': 'a socket file that cannot be removed is found stale by the next start',
}
# Functions whose name is not enough, with a function further out in the stack.
SILENT_BELOW = {
    ('grow', 'knit_buffer_append'): 'the text of an error that is reported anyway, with fewer words',
    ('read', 'knit_worker_start'): 'of offer_to_oom_killer(), inlined',
    ('open64', 'knit_worker_start'): 'the same',
    ('add', 'finalize_serving'): 'a notice that is missing in the log; the stats have the death',
    ('add', 'knit_death_finalize'): 'the same, inlined',
    ('add', 'handle_ready'): 'the same of a worker that is ready',
    ('add', 'end_stop'): 'the same of the end of a pool',
    ('start', 'knit_service_run'): 'a ready file of an earlier run that cannot be removed is written over',
}

# Reports of sanitizers.
COMPLAINT = re.compile(r'(ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion .* failed|terminated by signal).*')


def text(field):
    return field.split(b'\0', 1)[0].decode(errors='replace')


@functools.cache
def left_out(program):
    """Where libseccomp lies in that program, which links its archive: give_way.c refuses it nothing."""
    path = {'knittingd': 'KNIT_DAEMON', 'knitting-worker': 'KNIT_WORKER'}.get(program)
    archive = subprocess.run(['gcc', '-print-file-name=libseccomp.a'], text=True, stdout=subprocess.PIPE).stdout.strip()
    if path is None or not os.path.isfile(archive):
        return '0-0'

    def functions(file, *options):
        lines = subprocess.run(['nm', '--defined-only', *options, file], text=True, stdout=subprocess.PIPE).stdout
        return [line.split() for line in lines.splitlines() if re.fullmatch(r'[0-9a-f]+ [tT] \S+', line)]
    own = {name for _, _, name in functions(archive)}
    rows = functions(os.environ[path], '-n')
    inside = [i for i, (_, _, name) in enumerate(rows) if name in own]
    return f'{rows[inside[0]][0]}-{rows[inside[-1] + 1][0]}' if inside else '0-0'


class Book:
    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix='knit-ground-')
        self.file.truncate(ENTRIES_AT + ENTRIES * ENTRY.size)
        self.memory = mmap.mmap(self.file.fileno(), 0)

    def environment(self, program):
        """For a program of that name; in others that inherit it nothing fails."""
        options = os.environ.get('ASAN_OPTIONS', '')
        return {'LD_PRELOAD': os.environ['KNIT_GIVE_WAY'], 'KNIT_GROUND': self.file.name,
                'KNIT_GROUND_PROGRAM': program, 'KNIT_GROUND_LEFT_OUT': left_out(program),
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
        """What failed, in some lines of text; None when nothing did."""
        pid, error, frames, name = self.head()[7:]
        if pid == 0:
            return None
        lines = [f'{text(name)}: {os.strerror(error)} in process {pid}']
        for i in range(min(frames, FRAMES)):
            at = STACK_AT + 64 * i
            lines.append('    ' + text(self.memory[at:at + 64]))
        return '\n'.join(lines)


class Points:
    """Points to fail at: iteration yields them until the seconds are over."""

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
    """The names of the functions there, the inlined ones first; none for libraries of others."""
    path = next((os.environ[name] for name in PROGRAMS if os.path.basename(os.environ[name]).startswith(file)), None)
    if path is None:
        return ()
    named = subprocess.run([ADDR2LINE, '-sife', path, hex(int(offset, 16) - 1)], text=True, stdout=subprocess.PIPE,
                           timeout=PATIENCE).stdout
    return tuple(named.splitlines()[::2])


def may_be_silent(failed):
    """Whether that failure may be left unreported."""
    name, frames = failed.split(':')[0], []
    if os.strerror(errno.EINTR) in failed.splitlines()[0]:
        # An interrupted call is repeated.
        return True
    for file, offset in re.findall(r'^    (.*)\+(0x[0-9a-f]+)$', failed, re.MULTILINE):
        frames += [function for function in functions_at(file, offset) if function not in (name, '_start', '??')]
    if not frames or frames[0] == 'main':
        # The C library's own calls, and the printing of session.c.
        return True
    return not SILENT.keys().isdisjoint(frames[:NEAR]) or any(
        frames[0] == near and far in frames for near, far in SILENT_BELOW)


class Findings:
    """Counts the failures, prints each that was not survived or not reported, and fails the test at its end if there was
    one. Whether a failure may be unreported depends on function names, so without ADDR2LINE that is not checked."""

    SHOWN = 20

    def __init__(self, case, title):
        self.case, self.title = case, title
        self.book = Book()
        self.met = self.refused = self.wrong = 0
        self.has_names = shutil.which(ADDR2LINE) is not None
        if not self.has_names:
            print(f'there is no {ADDR2LINE}: whether a failure may be unreported is not checked', flush=True)

    def note(self, point, is_right, is_refused, story):
        failed = self.book.failed()
        self.met += failed is not None
        self.refused += failed is not None and is_refused and is_right
        if is_right and failed is not None and not is_refused and self.has_names and not may_be_silent(failed):
            is_right, story = False, f'it was not reported\n{story}'
        if not is_right:
            self.wrong += 1
            # At once, since the long form takes long.
            if self.wrong <= self.SHOWN:
                print(f'point {point[0]}:{point[1]} {point[2]}\n{with_names(failed or "nothing failed")}\n{story}', flush=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        print(f'{self.title}: {self.met} failures, {self.refused} refused, {self.met - self.refused - self.wrong} '
              f'without a trace, {self.wrong} wrong', flush=True)
        if kind is None and self.wrong:
            self.case.fail(f'{self.wrong} failures were not survived, or not reported')


def run_session(url, *arguments, book=None):
    """Exit status and output of session.c."""
    environment = {**os.environ, **(book.environment('session') if book else {})}
    done = subprocess.run([os.environ['KNIT_GROUND_SESSION'], url, *arguments], env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3 * PATIENCE)
    return done.returncode, done.stdout


PROGRAMS = ('KNIT_DAEMON', 'KNIT_WORKER', 'KNIT_GROUND_SESSION', 'KNIT_GROUND_LIBRARY')


def with_names(stack):
    """The stack with the names of its functions, if ADDR2LINE is installed."""
    programs = [os.environ[name] for name in PROGRAMS]
    lines = []
    for line in stack.splitlines():
        match = re.fullmatch(r'    (.*)\+(0x[0-9a-f]+)', line)
        path = next((path for path in programs if match and os.path.basename(path).startswith(match[1])), None)
        if path:
            try:
                named = subprocess.run([ADDR2LINE, '-sfe', path, hex(int(match[2], 16) - 1)], text=True,
                                       stdout=subprocess.PIPE, timeout=PATIENCE).stdout.split()
                line += ' ' + ' '.join(named)
            except OSError:
                pass
        lines.append(line)
    return '\n'.join(lines)


# A line that says what failed.
LOG_REASON = re.compile(r'level=error|reason="[^"]|error=|knitting(d|-worker): ')
WRONG = (AssertionError, OSError, EOFError, KeyError, subprocess.TimeoutExpired)


def ask_face(daemon):
    """What of the admin face was not answered; '' where there is none, or all was."""
    refused = ''
    for path in ('', 'readyz', 'stats', 'tasks', 'calls', 'metrics') if daemon.admin else ():
        try:
            with urllib.request.urlopen(daemon.admin + path, timeout=PATIENCE) as answer:
                answer.read()
        except (OSError, http.client.HTTPException) as error:
            refused += f'refused /{path}: {error}\n'
    return refused


def has_workers(daemon, without=None):
    """Whether all workers serve, none of them as that process. The request itself may be refused once."""
    try:
        return all(lane['state'] == 'serving' and lane['pid'] != without for lane in daemon.stats()['lanes'])
    except (EOFError, OSError):
        return False


class Failing:
    """A daemon in which something fails, and its log."""

    def __init__(self, book, **options):
        self.book, self.seen, self.log, self.whole_log = book, 0, '', ''
        self.daemon = Daemon(wait=False, **options)

    def new_lines(self):
        """The lines of its log since the last call."""
        log = self.daemon.log()[self.seen:]
        self.seen += len(log)
        return log

    def reasons(self, log):
        """The lines that say what failed, without the numbers, which differ from run to run."""
        return {re.sub(r'[0-9]+', '0', line) for line in log.splitlines() if LOG_REASON.search(line)}

    def has_started(self):
        """Whether it serves. If not, its log must have the reason in one sentence."""
        daemon = self.daemon
        wait_until(lambda: os.path.exists(daemon.ready_file) or daemon.process.poll() is not None, 'a start', 3 * PATIENCE)
        if daemon.process.poll() is None:
            daemon.wait_ready()
            return True
        sentences = [line for line in daemon.log().splitlines() if line.startswith('knittingd: ') and len(line) > 15]
        assert daemon.process.returncode in (1, 2) and sentences, f'refused to start with {daemon.process.returncode}'
        return False

    def all_works(self):
        """A full set of workers, every transport."""
        wait_until(lambda: has_workers(self.daemon), 'all workers')
        for url in self.daemon.urls:
            status, output = run_session(url, '--strict')
            assert status == 0, f'{url}: status {status}\n{output}'
        refused = ask_face(self.daemon)
        assert refused == '', refused

    def end(self):
        """Ends it and removes its folder."""
        self.book.disarm()
        try:
            status = self.daemon.end()
            complaint = COMPLAINT.search(self.daemon.log())
            assert complaint is None, complaint
            return status
        finally:
            self.whole_log = self.daemon.log()
            self.log = self.whole_log[-6000:]
            shutil.rmtree(self.daemon.dir, ignore_errors=True)


class Scenes(Case):
    """What the tests of daemon and workers share. fresh() of a test decides where the failures are."""

    def fresh(self, book):
        raise NotImplementedError

    def begin(self, book):
        """A daemon in which nothing has failed yet."""
        failing = self.fresh(book)
        self.assertTrue(failing.has_started(), failing.new_lines())
        failing.all_works()
        failing.new_lines()
        return failing

    def starts_are_refused_with_a_sentence_or_succeed(self, title, seconds):
        with Findings(self, title) as findings:
            book = findings.book
            book.record(KINDS)
            failing = self.fresh(book)
            self.assertTrue(failing.has_started(), failing.new_lines())
            points = book.points()
            failing.all_works()
            failing.end()
            usual = failing.reasons(failing.whole_log)
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
        """The end of a daemon that was started for one point; one that refused to start has ended before. Lines of its log
        beyond the usual ones report the failure."""
        ended = failing.daemon.process.poll() is not None
        try:
            status = failing.end()
            if status != 0 and not ended:
                why += f' ended with {status}'
        except WRONG as wrong:
            why += repr(wrong)
        is_reported = is_refused or not failing.reasons(failing.whole_log) <= usual
        findings.note(point, why == '', is_reported, f'{why}\n{failing.log}')

    def scene(self, daemon):
        """A session over each transport, then a worker is killed and replaced. Returns what was refused."""
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
        return refused + ask_face(daemon)

    def serving_goes_on(self, title, seconds):
        with Findings(self, title) as findings:
            book = findings.book
            failing = self.begin(book)
            # A scene has deaths of its own, which the log reports, the first ones in other words than those in a row.
            for _ in range(3):
                self.scene(failing.daemon)
            book.record(KINDS)
            self.scene(failing.daemon)
            book.disarm()
            failing.all_works()
            points = book.points()
            before = descriptors(failing.daemon.pid)
            usual = failing.reasons(failing.daemon.log())
            failing.new_lines()
            for point in Points(points, seconds):
                why, refused = '', ''
                book.fail(KINDS, point)
                try:
                    refused = self.scene(failing.daemon)
                    book.disarm()
                    failing.all_works()
                    wait_until(lambda: descriptors(failing.daemon.pid) <= before, f'{before} descriptors')
                except WRONG as wrong:
                    why = repr(wrong)
                lines = failing.new_lines()
                is_reported = refused != '' or not failing.reasons(lines) <= usual
                findings.note(point, why == '', is_reported, f'{why}\n{refused}{lines[-6000:]}')
                if why != '':
                    self.conclude(findings, failing, ('the end after that', 0, ''), False, '')
                    failing = self.begin(book)
                    before = descriptors(failing.daemon.pid)
            self.conclude(findings, failing, ('the end after all of them', 0, ''), False, '')
