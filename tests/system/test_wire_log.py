# SPDX-License-Identifier: Apache-2.0
"""What tasks print goes to the daemon's log, marked, a line at a time; a log that is stuck stops neither tasks nor daemon."""

import json
import os
import subprocess
import time

import msgpack

from knit_harness import SLOWDOWN, Case, Daemon, DaemonCase, RpcError, main, wait_until

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

    def fields_of(self, text):
        wait_until(lambda: self.lines_with(text), f'the line {text!r}')
        line, = self.lines_with(text)
        return dict(field.split('=', 1) for field in line.split('"task output" ')[1].split(' line=')[0].split()), line

    def test_a_line_names_task_and_call(self):
        with self.daemon.tcp() as rpc:
            rpc.call('mutter', 'from mutter\n')
            fields, _ = self.fields_of('from mutter')
            self.assertEqual(fields['task'], 'mutter')
            lane = self.daemon.stats()['lanes'][int(fields['lane'])]
            self.assertEqual((fields['call'], fields['pid']), (str(lane['calls']), str(lane['pid'])))
            rpc.call('print', 'from print\n', 1)
            self.assertEqual(self.fields_of('from print')[0]['task'], 'print')
        first = self.lines_with('hello from bootstrap')[0]
        self.assertIn(' task=none call=0 ', first)
        self.assertEqual(self.lines_with('that bootstrap starts'), [])

    def test_what_has_no_newline_is_seen(self):
        with self.daemon.tcp() as rpc:
            for task, text, *more in ('mutter', 'left in the buffer'), ('print', 'sent without an end', 1, 'stderr'):
                rpc.call(task, text, *more)
                # A line that is read when the next call has begun bears the name of that one.
                fields, line = self.fields_of(text)
                self.assertEqual(fields['task'], task)
                self.assertIn(f'line="{text}"', line)
            with self.assertRaises(RpcError):
                rpc.call('gasp', 'last words')
            self.assertEqual(self.fields_of('last words')[0]['task'], 'gasp')

    def test_no_line_is_lost_unseen(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'one of a hundred thousand\n', 100000)
        with self.daemon.tcp() as rpc:
            wait_until(lambda: len(self.lines_with('one of a hundred thousand')) == 100000, 'all lines', seconds=60 * SLOWDOWN)
            stats = rpc.call('$/stats')
        self.assertEqual((stats['pool']['output_dropped'], stats['log_dropped']), (0, 0))

    def test_a_line_may_hold_anything_and_stays_one_line(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'quote " tab \t escape \x1b[31m level=error\n', 1)
        wait_until(lambda: self.lines_with('quote'), 'the line')
        line, = self.lines_with('quote')
        self.assertIn(r'line="quote \" tab \x09 escape \x1b[31m level=error"', line)

    def test_a_long_line_is_cut_and_the_next_one_whole(self):
        with self.daemon.tcp() as rpc:
            rpc.call('print', 'x', 20000)
            # The other worker may have it.
            rpc.call('print', '\nafter the long one\n', 1)
            wait_until(lambda: self.lines_with('after the long one'), 'the next line')
            said = wait_until(lambda: self.lines_with('msg="task output was dropped"'), 'a sentence about what was cut')
            cut = rpc.call('$/stats')['pool']['output_dropped_bytes']
        self.assertEqual(cut, 20000 - sum(len(line.split(' line=')[1]) for line in self.lines_with('xxx')))
        self.assertEqual(sum(int(line.split(' bytes=')[1]) for line in said), cut)
        self.assertTrue(all(len(line) <= 4096 for line in self.daemon.log().splitlines()))


class WithOutcome(DaemonCase):
    """Option `output`."""
    daemon_options = {'module': PRINT, 'workers': 1}

    def setUp(self):
        self.rpc = self.daemon.tcp()
        self.rpc.hello()
        self.addCleanup(self.rpc.close)

    def call(self, *arguments):
        return self.rpc.call(*arguments, options={'output': True})

    def lines_with(self, text):
        return sum(text in line for line in self.daemon.log().splitlines())

    def test_it_comes_with_a_result_and_with_an_error(self):
        printed = [b'child err out', False]
        for _ in range(3):
            self.assertEqual(self.call('say', 'out', ' err ', 'child', False), [5, printed])
            error = self.assert_fails(600, self.call, 'say', 'out', ' err ', 'child', True)
            self.assertEqual((error.details['output'], error.details['data']['code']), (printed, 7))
            self.assertEqual(self.rpc.call('say', 'out', ' err ', 'child', False), 5)
            long = 'x' * 20000
            error = self.assert_fails(600, self.call, 'say', long, long, '', True)
            self.assertEqual(error.details['output'], [(2 * long).encode()[:32768], True])
            self.assertEqual(error.details['data']['code'], 7)
        self.assertEqual(self.call('print', '', 0), [None, [b'', False]])
        self.assertNotIn('output', self.assert_fails(302, self.call, 'say', 1).details)
        self.assertNotIn('output', self.assert_fails(400, self.call, 'gasp', 'last of this one').details)
        wait_until(lambda: self.lines_with('last of this one'), 'its line in the log')
        self.assertEqual(self.call('mutter', 'after it'), [None, [b'after it', False]])

    def test_it_is_bounded_and_is_in_the_log_too(self):
        line = 'one of ten thousand\n'
        result, (text, is_cut) = self.call('print', line, 10000)
        self.assertEqual((result, is_cut, len(text)), (None, True, 32768))
        self.assertEqual(text, (line * 2000).encode()[:32768])
        wait_until(lambda: self.lines_with(line[:-1]) == 10000, 'all lines', seconds=60 * SLOWDOWN)
        self.assertEqual(self.daemon.stats()['pool']['output_dropped'], 0)

    def test_what_others_print_is_not_in_it(self):
        for i in range(200):
            self.rpc.call('mutter', f'not wanted {i}')
            self.assertEqual(self.call('mutter', f'wanted {i}')[1], [f'wanted {i}'.encode(), False])
        wait_until(lambda: self.lines_with('wanted 199') == 2, 'the last lines')
        self.assertEqual((self.lines_with('not wanted'), self.lines_with('wanted')), (200, 400))

    def test_the_tool_shows_it_over_every_way(self):
        for url in self.daemon.urls:
            def knit(*arguments, url=url):
                done = subprocess.run([os.environ['KNIT_TOOL'], '-u', url, *arguments], stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, text=True, timeout=60 * SLOWDOWN)
                return done.returncode, done.stdout, done.stderr
            with self.subTest(url.split(':')[0]):
                say = ('call', '--output', 'say', '"out"', r'"e\u001b\n"', '"c\\n"')
                self.assertEqual(knit(*say, 'false'), (0, '5\n', 'c\ne\\x1b\nout\n'))
                status, out, err = knit(*say, 'true')
                self.assertEqual((status, out, err.splitlines()[:3]), (1, '', ['c', 'e\\x1b', 'out']))
                self.assertIn('as was wanted', err.splitlines()[3])
                status, out, err = knit('--json', *say, 'false')
                self.assertEqual((out, json.loads(err)), ('5\n', {'output': 'c\ne\x1b\nout', 'output_cut': False}))
                self.assertEqual(knit('call', 'say', '"out"', '""', '""', 'false'), (0, '5\n', ''))


class Json(Case):
    def test_each_line_is_an_object_whatever_peers_and_tasks_write(self):
        with Daemon(module=PRINT, workers=1, log_format='json', log_level='debug') as daemon:
            for i in range(30):
                with daemon.tcp() as rpc:
                    rpc.call('$/hello', {'name': 'a"\n\x1b\u202e{\\'})
                    rpc.send(b'\xc1')
                    self.assertTrue(rpc.is_closed_by_peer())
            with daemon.tcp() as rpc:
                rpc.call('print', 'odd "\t\x1b\\ \xe9\n', 1)

            def lines():
                return [json.loads(line) for line in daemon.log().splitlines()]
            wait_until(lambda: any(line['msg'] == 'lines were left out' for line in lines()), 'the count of those left out')
            wait_until(lambda: any(line.get('line', '').startswith('odd') for line in lines()), 'what the task printed')
            all_lines = lines()
            self.assertTrue(all(list(line)[:3] == ['ts', 'level', 'msg'] for line in all_lines))
            closed = [line for line in all_lines if line['msg'] == 'connection closed for a bad message']
            left_out = [line for line in all_lines if line['msg'] == 'lines were left out']
            self.assertEqual({line['name'] for line in closed}, {'a"\n\x1b\u202e{\\'})
            self.assertEqual(len(closed) + sum(line['lines'] for line in left_out), 30)
            self.assertEqual({line['kind'] for line in left_out}, {'connection closed for a bad message'})
            self.assertEqual([line['line'] for line in all_lines if line.get('line', '').startswith('odd')], ['odd "\t\x1b\\ \xe9'])
            self.assertEqual(daemon.stats()['log_left_out'], sum(line['lines'] for line in left_out))


class Chatter(Case):
    def test_a_child_that_prints_without_end_holds_no_call(self):
        with Daemon(module=PRINT, workers=1) as daemon, daemon.tcp() as rpc:
            began = time.monotonic()
            for _ in range(4):
                rpc.call('chatter', 60000, options={'output': True})
            for output in (True, False, True):
                rpc.call('print', '', 0, options={'output': output})
            self.assertLess(time.monotonic() - began, 5 * SLOWDOWN)


    def test_a_flood_of_one_worker_delays_no_line_of_another(self):
        # Keys enough for both lanes.
        keys = range(8)
        with Daemon(module=PRINT, workers=2) as daemon, daemon.tcp() as rpc:
            lanes = {rpc.call('lane', options={'affinity': key}): key for key in keys}
            self.assertEqual(len(lanes), 2)
            for key in lanes.values():
                rpc.call('chatter', 60000, options={'affinity': key})
            began = time.monotonic()
            for _ in range(20):
                for key in lanes.values():
                    rpc.call('print', 'a line between\n', 1, options={'affinity': key})
            self.assertLess(time.monotonic() - began, 10 * SLOWDOWN)


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
