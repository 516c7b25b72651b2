# SPDX-License-Identifier: Apache-2.0
"""Calls in lanes of the test's choice, which the library chooses by itself.

    with Lanes(rpc, [[('ledger', 1), ('ledger', 2)], [('hold', 3, 1)]]) as lanes:
        lanes.publish(0)                        the two calls of lane 0
        lanes.order(1)                          what the worker of lane 1 answered, (lane, place) of each call

Offsets are those of knit_layout_request() and knit_layout_reply(). The cells are written before the session is served,
so that one store of ctrl publishes a call, after the lane's bit in `occupied`. No lane is notified: a worker that sleeps is woken by another call.
"""

import mmap
import os

import msgpack

from knit_attach import REPLY, REQUEST, seal, grant, send_attached

PAGE, LINE, CELL, PROGRESS, TRACE, INLINE, SLAB = 4096, 64, 128, 128, 32, 104, 1024


def place(at, align):
    return (at + align - 1) // align * align


class Lanes:
    """A session in which each slot is used once, so every generation is 1 and every ring in its first lap."""

    def __init__(self, rpc, calls, deadline_ns=0, arena=PAGE):
        """calls: for each lane a list of tasks, by name or number, with their arguments, which must be small. All have that deadline. arena:
        for results."""
        listed = rpc.call('$/tasks')
        ids = {task['name']: task['id'] for task in listed['tasks']}
        self.slots = [(lane, i) for lane, row in enumerate(calls) for i in range(len(row))]
        self.shape, self.fds = grant(rpc, slots=len(self.slots), arena=arena)
        assert (self.shape['lanes'], self.shape['slots']) == (len(calls), len(self.slots))
        self.lanes, self.cells = self.shape['lanes'], self.shape['cells']
        self.request = memoryview(mmap.mmap(self.fds[REQUEST], 0)).cast('Q')
        self.reply = memoryview(mmap.mmap(self.fds[REPLY], 0, prot=mmap.PROT_READ)).cast('Q')
        for slot, (lane, i) in enumerate(self.slots):
            task, *arguments = calls[lane][i]
            body = msgpack.packb(arguments, use_bin_type=True)
            assert len(body) <= INLINE
            words = memoryview(body.ljust(INLINE, b'\0')).cast('Q')
            at = self.cell(lane, i)
            self.request[at + 1] = deadline_ns
            self.request[at + 2] = ids.get(task, task) << 48 | (listed['epoch'] & 0xff) << 40 | len(body)
            for number, word in enumerate(words):
                self.request[at + 3 + number] = word
        seal(self.fds)
        send_attached(rpc)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.request.release()
        self.reply.release()
        for fd in self.fds:
            os.close(fd)

    def cell(self, lane, i):
        """The index of the cell's first word."""
        words = 8 * len(self.slots)
        at = place(PAGE + 2 * LINE + 4 * self.lanes, LINE)
        at = place(at + words, LINE) + words
        at = place(at, LINE) + TRACE * len(self.slots)
        at = place(at, CELL) + PROGRESS * len(self.slots)
        at = place(at, SLAB) + SLAB * len(self.slots)
        return (place(at, CELL) + CELL * (lane * self.cells + i)) // 8

    def publish(self, lane, first=0, end=None):
        """Its calls from the first one to the end."""
        self.request[(PAGE + LINE) // 8 + lane // 64] |= 1 << lane % 64
        for slot, (where, i) in enumerate(self.slots):
            if where == lane and i >= first and (end is None or i < end):
                self.request[self.cell(lane, i)] = 1 << 24 | slot << 10 | 1

    def replies(self):
        """Where reply cells begin, in bytes."""
        return place(PAGE + 2 * LINE + 8 * len(self.slots), CELL)

    def answered(self):
        at = self.replies() // 8
        return sum(self.reply[at + CELL // 8 * slot] >> 24 == 1 for slot in range(len(self.slots)))

    def is_answered(self):
        return self.answered() == len(self.slots)

    def outcome(self, slot):
        """(whether it is a result, the result or the compact error) of a call whose outcome is at most INLINE bytes;
        None: there is none yet."""
        at = self.replies() // 8 + CELL // 8 * slot
        word, meta = self.reply[at:at + 2]
        if word >> 24 != 1:
            return None
        body = self.reply[at + 3:at + 3 + INLINE // 8].tobytes()
        return word >> 16 & 255 == 0, msgpack.unpackb(body[:meta & 0xffffffff], raw=False)

    def order(self, lane):
        """From the completions, which are never overwritten here: there are more entries than calls."""
        at = self.replies() + (CELL + PROGRESS) * len(self.slots) + LINE * self.lanes
        tail = self.reply[(at + 2 * LINE * lane) // 8]
        first = (at + 2 * LINE * self.lanes) // 4 + lane * self.cells
        completions = self.reply.cast('B').cast('I')[first:first + tail]
        return [self.slots[word >> 18] for word in completions]
