# SPDX-License-Identifier: Apache-2.0
"""What tasks print goes to the daemon's log, marked, a line at a time; a log that is stuck stops neither tasks nor daemon."""

import os
import time

import msgpack

from knit_harness import SLOWDOWN, Case, Daemon, DaemonCase, main, wait_until

PRINT = os.environ['KNIT_PRINT']


class Output(DaemonCase):
    daemon_options = {'module': PRINT, 'workers': 2}

    def lines_with(self, text):
        return [line for line in self.daemon.log().splitlines() if text in line]

    def test_a_line_is_marked_with_its_lane_and_process(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'first words\n', 1)
            rpc.call('print', 'other words\n', 1, 'stderr')
        pids = [lane['pid'] for lane in self.daemon.stats()['lanes']]
        for text in ('first words', 'other words'):
            wait_until(lambda: self.lines_with(text), 'the line')
            line, = self.lines_with(text)
            self.assertIn(' level=info msg="task output" lane=', line)
            self.assertIn(f'line="{text}"', line)
            self.assertTrue(any(f' pid={pid} ' in line for pid in pids), line)

    def test_a_line_may_hold_anything_and_stays_one_line(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'quote " tab \t escape \x1b[31m level=error\n', 1)
        wait_until(lambda: self.lines_with('quote'), 'the line')
        line, = self.lines_with('quote')
        self.assertIn(r'line="quote \" tab \x09 escape \x1b[31m level=error"', line)

    def test_a_long_line_is_cut_and_the_next_one_whole(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'x', 20000)
            rpc.call('print', '\nafter the long one\n', 1)
        wait_until(lambda: self.lines_with('after the long one'), 'the next line')
        self.assertTrue(all(len(line) <= 4096 for line in self.daemon.log().splitlines()))


class Stuck(Case):
    def setUp(self):
        self.reader, writer = os.pipe()
        try:
            self.daemon = Daemon(module=PRINT, workers=1, listen='none', log_fd=writer)
        finally:
            os.close(writer)

    def test_a_log_that_is_not_read_stops_neither_tasks_nor_daemon(self):
        with self.daemon, self.daemon.unix() as rpc:
            began = time.monotonic()
            for _ in range(20):
                rpc.call('print', 'a line that is not read, again and again\n', 1000)
            self.assertLess(time.monotonic() - began, 20 * SLOWDOWN)
            dropped = wait_until(lambda: rpc.call('$/stats')['log_dropped'], 'lines to be dropped')
            self.assertGreater(dropped, 0)
            os.set_blocking(self.reader, False)
            text = b''

            def has_said_so():
                nonlocal text
                rpc.call('print', 'one more\n', 1)
                try:
                    text += os.read(self.reader, 1 << 20)
                except BlockingIOError:
                    pass
                return b'msg="log lines were dropped" lines=' in text
            wait_until(has_said_so, 'the line about dropped lines')
        os.close(self.reader)

    def test_a_log_whose_reader_is_gone_stops_nothing(self):
        os.close(self.reader)
        with self.daemon, self.daemon.unix() as rpc:
            self.assertIsNone(rpc.call('print', 'into nothing\n', 1000))
            rpc.send(msgpack.packb([1, 1, None, None]))
            self.assertTrue(rpc.is_closed_by_peer())


if __name__ == '__main__':
    main()
