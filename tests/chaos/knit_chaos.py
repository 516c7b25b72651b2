# SPDX-License-Identifier: Apache-2.0
"""What the chaos tests share: callers that record each outcome, and the audit of the records.

The record (chaos_caller.c) says for each call id whether it was begun and which outcome its caller got; the ledger
(module_ledger.c) how often it ran. Both are mapped files, so they outlive the processes that are killed. Audit
compares them:

    success                       it ran exactly once
    an error, started: no         it never ran
    another error, or no outcome  it ran once at most
    never begun                   it never ran
    no outcome                    its caller was killed, or freed the call's handle early

KNIT_TEST_LONG=1 selects the long forms, KNIT_TEST_MINUTES=n and KNIT_TEST_CALLS=n their length.
"""

import array
import collections
import mmap
import os
import struct
import subprocess
import tempfile

from knit_harness import PATIENCE, Child
from knit_witness import Ledger

STARTED = ('no', 'yes', 'unknown', '?')
CODES = {0: 'ok', 200: 'OVERLOADED', 203: 'NO_WORKER', 303: 'TIMEOUT', 304: 'CANCELLED', 400: 'WORKER_DIED',
         500: 'INTERNAL', 501: 'DISCONNECTED', 502: 'SHUTDOWN', 600: 'TASK_FAILED'}


class Entry:
    """A word of the record: one call and its outcome."""

    def __init__(self, word):
        self.code, self.outcomes, self.started = word >> 16, word >> 8 & 255, STARTED[word >> 4 & 3]
        self.is_begun, self.is_freed_early = bool(word & 1), bool(word & 2)

    def __str__(self):
        if self.outcomes == 0:
            return 'freed early' if self.is_freed_early else 'no outcome' if self.is_begun else 'never begun'
        started = '' if self.code == 0 else f', started: {self.started}'
        return f'{CODES.get(self.code, self.code)}{started}' + (f', {self.outcomes} times' if self.outcomes > 1 else '')

    def allows(self, times, was_killed):
        if self.outcomes > 1 or self.is_freed_early and self.outcomes > 0:
            return False
        if not self.is_begun:
            return times == 0 and self.outcomes == 0
        if self.outcomes == 0:
            return times <= 1 and (was_killed or self.is_freed_early)
        if self.code == 0:
            return times == 1
        return times == 0 if self.started == 'no' else times <= 1


class Record:
    """The outcomes that the callers got."""

    SEATS = 64

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix='knit-record-')
        self.file.truncate(64 * self.SEATS + 4 * Ledger.IDS)
        self.memory = mmap.mmap(self.file.fileno(), 0)
        self.path = self.file.name

    def begun(self, seat):
        return struct.unpack_from('=Q', self.memory, 64 * seat)[0]

    def done(self, seat):
        return struct.unpack_from('=Q', self.memory, 64 * seat + 8)[0]

    def sessions(self, seat):
        return struct.unpack_from('=Q', self.memory, 64 * seat + 16)[0]

    def words(self, first, count):
        begin = 64 * self.SEATS + 4 * first
        return array.array('I', self.memory[begin:begin + 4 * count])

    def forget(self, first, count):
        begin = 64 * self.SEATS + 4 * first
        self.memory[begin:begin + 4 * count] = bytes(4 * count)

    def close(self):
        self.memory.close()
        self.file.close()


class Audit:
    """Counts of outcomes; `wrong` holds those that must not be."""

    def __init__(self):
        self.calls, self.ran, self.wrong = 0, 0, []
        self.outcomes = collections.Counter()

    def add(self, ledger, record, first, count, was_killed):
        pairs = collections.Counter(zip(ledger.times(first, count), record.words(first, count)))
        for (times, word), number in pairs.items():
            entry = Entry(word)
            if not entry.allows(times, was_killed):
                self.wrong.append(f'{number} calls from {first} on: {entry}, but ran {times} times')
            if entry.is_begun:
                self.calls += number
                self.ran += number * times
                self.outcomes[str(entry)] += number

    def __str__(self):
        outcomes = ', '.join(f'{outcome}: {n}' for outcome, n in self.outcomes.most_common())
        return f'{self.calls} calls, {self.ran} ran; {outcomes}'


class ChaosCaller(Child):
    """tests/chaos/chaos_caller.c, started."""

    def __init__(self, url, record, seat, first, count, seed, trusts=None, **keys):
        """trusts: the file of the authorities that it takes for the system's."""
        self.record, self.seat, self.first, self.count, self.was_killed = record, seat, first, count, False
        self.before = record.begun(seat), record.done(seat)
        self.lines = tempfile.TemporaryFile('w+')
        super().__init__(
            [os.environ['KNIT_CHAOS_CALLER'], url, record.path, str(seat), str(first), str(count), str(seed),
             *(f'{name}={value}' for name, value in keys.items())],
            stdin=subprocess.DEVNULL, stdout=self.lines, env={**os.environ, **({'SSL_CERT_FILE': trusts} if trusts else {})})

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.lines.close()

    def kill(self):
        """True if it still ran: then some of its calls may have no outcome."""
        if not self.is_over():
            self.process.kill()
            self.process.wait()
        if self.process.returncode < 0:
            self.was_killed = True
        return self.was_killed

    def wait(self, seconds=PATIENCE):
        return self.process.wait(seconds)

    def deaths(self):
        """(call, when its caller got the outcome) of each call whose worker died."""
        self.lines.seek(0)
        return [tuple(map(int, line.split()[1:])) for line in self.lines if line.startswith('died ')]


def percentile(sorted_values, percent):
    return sorted_values[min(len(sorted_values) - 1, len(sorted_values) * percent // 100)]


def spread(values):
    """'p50 A, p99 B, worst C' of milliseconds."""
    values = sorted(values)
    if not values:
        return 'none'
    return f'p50 {percentile(values, 50):.1f}, p99 {percentile(values, 99):.1f}, worst {values[-1]:.1f} ms'
