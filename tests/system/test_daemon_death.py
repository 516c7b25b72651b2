# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed: callers get their outcomes at once, its workers end with it, nothing is left but the socket and
its lock, which the next daemon replaces. A socket that is served is refused.
"""

import os
import signal
import struct
import subprocess
import tempfile
import time
import unittest.mock

from knit_harness import SLOWDOWN, Case, Daemon, main, wait_until
from knit_witness import Caller, LedgerDaemon, Outcome, is_alive, milliseconds_since

DRAINING, WORKER_DIED, DISCONNECTED, SHUTDOWN = 202, 400, 501, 502
KILLED = -9
SLOTS = 64
CLAIMS = 4096 + 2 * 64  # of a reply segment


def named_files(pid):
    """What it has open or mapped in folders where files could be left behind."""
    links = [f'/proc/{pid}/{kind}/{name}' for kind in ('fd', 'map_files') for name in os.listdir(f'/proc/{pid}/{kind}')]
    paths = set()
    for link in links:
        try:
            paths.add(os.readlink(link))
        except OSError:
            pass
    return {path for path in paths if path.startswith(('/dev/shm/', '/tmp/', '/run/', '/var/'))}


def state(pid):
    with open(f'/proc/{pid}/stat') as file:
        return file.read().rsplit(')', 1)[1].split()[0]


class DaemonDeath(Case):
    def test_callers_get_outcomes_and_workers_end(self):
        with LedgerDaemon() as daemon, daemon.tcp() as plain, \
                Caller(daemon.url('shm'), 'calls', 1, 100, 8) as shm, \
                Caller(daemon.url('shm'), 'hold', 1, 200, 1) as idle, \
                Caller(daemon.url('tcp'), 'calls', 1, 300, 8) as tcp, \
                Caller(daemon.url('unix'), 'hold', 1, 400, 2) as unix:
            daemon.expected_status = KILLED
            for caller in (shm, idle, tcp, unix):
                caller.wait_ready()
            plain.request('hold', 1, 1)
            wait_until(lambda: all(lane['is_running'] for lane in daemon.stats()['lanes']), 'workers to be busy')
            shm.go_on()
            tcp.go_on()
            ran = wait_until(lambda: (lambda calls: len(calls) == 2 and calls)(
                {call for call in range(500) if daemon.ledger.ran(call)}), 'two calls to have run')
            workers = daemon.workers()
            killed_ns = time.monotonic_ns()
            daemon.process.kill()
            self.assertTrue(plain.is_closed_by_peer())
            wait_until(lambda: not any(is_alive(pid) for pid in workers), 'workers to go')
            gone_ms = milliseconds_since(killed_ns)
            delays = {name: self.outcome_delay(daemon, caller, killed_ns, ran)
                    for name, caller in (('shm', shm), ('shm, one call', idle), ('tcp', tcp), ('unix', unix))}
            print('outcomes after', ', '.join(f'{name} {ms:.1f} ms' for name, ms in delays.items()),
                  f'; workers gone after {gone_ms:.1f} ms')
            self.assertLess(max(delays.values()), 1000)
            self.assertLess(gone_ms, 10000)

    def gone_after(self, daemon, pids):
        """Milliseconds from its death to theirs."""
        daemon.expected_status = KILLED
        killed_ns = time.monotonic_ns()
        daemon.process.kill()
        try:
            wait_until(lambda: not any(is_alive(pid) for pid in pids), f'{pids} to go')
        finally:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)
        return milliseconds_since(killed_ns)

    def test_children_of_tasks_end_too(self):
        """Their worker kills them and must live to do it, also while it runs a task that ignores signals."""
        for _ in range(5):
            with Daemon(module=os.environ['KNIT_RUDE'], workers=2) as daemon, daemon.tcp() as rpc:
                workers = [lane['pid'] for lane in daemon.stats()['lanes']]
                child = rpc.call('orphan', False)
                rpc.request('hold_out')
                wait_until(lambda: any(lane['is_running'] for lane in daemon.stats()['lanes']), 'a worker to be busy')
                self.assertTrue(is_alive(child))
                self.assertLess(self.gone_after(daemon, [child, *workers]), 1000 * SLOWDOWN)

    def test_what_left_an_unsafe_workers_group_ends_too(self):
        for _ in range(3):
            with Daemon('--permission=unsafe', module=os.environ['KNIT_RUDE'], workers=2) as daemon, daemon.tcp() as rpc:
                workers = [lane['pid'] for lane in daemon.stats()['lanes']]
                left = [int(rpc.call('scatter', depth, False).split()[0]) for depth in (1, 1, 4, 4)]
                rpc.request('hold_out')
                wait_until(lambda: any(lane['is_running'] for lane in daemon.stats()['lanes']), 'a worker to be busy')
                self.assertTrue(all(map(is_alive, left)))
                self.assertLess(self.gone_after(daemon, [*left, *workers]), 1000 * SLOWDOWN)

    def test_a_stopped_worker_ends_with_its_children(self):
        """Both when the daemon has noticed the stop and when it has not yet."""
        for is_seen in (True, False, False):
            with Daemon(module=os.environ['KNIT_RUDE'], workers=1) as daemon, daemon.tcp() as rpc:
                worker = daemon.stats()['lanes'][0]['pid']
                child = rpc.call('orphan', False)
                os.killpg(worker, signal.SIGSTOP)
                if is_seen:
                    wait_until(lambda: state(worker) == state(child) == 'T', 'both to stand still')
                self.assertLess(self.gone_after(daemon, [child, worker]), 1000 * SLOWDOWN)

    def outcome_delay(self, daemon, caller, killed_ns, ran):
        """Milliseconds until the last outcome. Each says truly whether the call had started."""
        outcomes = caller.outcomes()
        for outcome in outcomes:
            self.assertEqual(outcome.code, DISCONNECTED, outcomes)
            truth = 'yes' if outcome.call in ran else 'no'
            self.assertIn(outcome.started, (truth, 'unknown'), outcomes)
            # A caller that shares memory with the workers can read it.
            if caller.is_local:
                self.assertEqual(outcome.started, truth, outcomes)
        return max((o.ns - killed_ns) / 1e6 for o in outcomes)

    def test_calls_made_after_its_death_fail_at_once(self):
        for transport in ('tcp', 'unix', 'shm'):
            with self.subTest(transport), LedgerDaemon() as daemon, \
                    Caller(daemon.url(transport), 'calls', 1, 100, 8) as caller:
                daemon.expected_status = KILLED
                caller.wait_ready()
                daemon.ledger.wait_for(100)
                daemon.process.kill()
                daemon.wait()
                # The library has not noticed the death yet: the calls are published, or refused at once (status 1).
                caller.process.stdin.write('\n')
                caller.process.stdin.close()
                begun = time.monotonic()
                text = caller.process.stdout.read()
                self.assertLess(time.monotonic() - begun, 2 * SLOWDOWN)
                outcomes = [Outcome(line) for line in text.splitlines() if not line.startswith('ready')]
                # A worker that has not yet ended may still run some of them.
                for outcome in outcomes:
                    self.assertIn(outcome.code, (DISCONNECTED, 0) if transport == 'shm' else (DISCONNECTED,))
                    self.assertTrue(outcome.code != 0 or daemon.ledger.ran(outcome.call), outcome)
                self.assertIn((caller.process.wait(), len(outcomes)), ((0, 9), (1, 0)))

    def test_it_ends_when_its_memory_is_damaged(self):
        """A task may overwrite memory that the event loops trust. Replacing workers does not repair that."""
        with LedgerDaemon(workers=2, slots=SLOTS, drain_ms=1000) as daemon, daemon.tcp() as rpc, \
                Caller(daemon.url('shm'), 'calls', 1, 100, 8) as caller:
            daemon.expected_status = 1
            rpc.hello()
            self.assertGreater(rpc.call('ledger', 1), 0)
            caller.wait_ready()
            daemon.ledger.wait_for(100)
            caller.go_on()
            folder, segment = f'/proc/{daemon.pid}/fd/', '/memfd:knit-reply-1 (deleted)'
            path = next(folder + fd for fd in os.listdir(folder) if os.readlink(folder + fd) == segment)
            with open(path, 'r+b', buffering=0) as reply:
                reply.seek(CLAIMS)
                claims = struct.unpack(f'={SLOTS}Q', reply.read(8 * SLOTS))
                reply.seek(CLAIMS)
                # Claims of generations that were not published yet.
                reply.write(struct.pack(f'={SLOTS}Q', *((claim - (2 << 24)) % (1 << 64) for claim in claims)))
            ids = [rpc.request('ledger', 2 + i) for i in range(8)]
            self.assertEqual(daemon.wait(), 1)
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual({rpc.responses[i][0][0] for i in ids} - {DRAINING, SHUTDOWN, WORKER_DIED}, set())
            self.assertEqual(len(caller.outcomes()), 9)
            self.assertRegex(daemon.log(), r'level=error msg="shared memory of an event loop is damaged" session=1 ')
            self.assertTrue(daemon.log().endswith('knittingd: ended because its shared memory was damaged\n'))

    def test_a_call_that_found_no_slot_fails_too(self):
        """Every slot holds a call that its caller has given up and that will never be answered."""
        with LedgerDaemon(slots=SLOTS) as daemon, Caller(daemon.url('shm'), 'abandon', 1, 100, SLOTS) as caller:
            daemon.expected_status = KILLED
            caller.wait_ready()
            wait_until(lambda: sum(daemon.ledger.times(100, SLOTS)) == 2, 'both workers to hold')
            caller.go_on()
            daemon.process.kill()
            daemon.wait()
            caller.process.stdin.write('\n')
            caller.process.stdin.close()
            outcome, = caller.outcomes()
            self.assertEqual((outcome.code, outcome.started), (DISCONNECTED, 'no'))

    def test_nothing_is_left_but_socket_and_lock(self):
        with LedgerDaemon() as daemon, Caller(daemon.url('shm'), 'hold', 1, 1, 1) as caller:
            daemon.expected_status = KILLED
            caller.wait_ready()
            daemon.ledger.wait_for(1)
            named = set().union(*map(named_files, [daemon.pid, *daemon.workers()]))
            programs = os.path.dirname(os.path.dirname(os.environ['KNIT_DAEMON']))
            named = {path for path in named if not path.startswith((programs, daemon.dir, daemon.ledger.path))}
            self.assertEqual(named, set())
            daemon.process.kill()
            daemon.wait()
            caller.outcomes()
            self.assertEqual(sorted(os.listdir(daemon.dir)), ['k.conf', 'k.sock', 'k.sock.lock', 'log', 'ready'])

    def test_ctrl_c_reaches_workers_only_through_the_daemon(self):
        """A terminal signals the whole process group; workers are not in it, so running calls end normally."""
        with tempfile.NamedTemporaryFile('w', prefix='knit-', delete=False) as script:
            script.write(f'#!/bin/sh\nexec setsid "{os.environ["KNIT_DAEMON"]}" "$@"\n')
        self.addCleanup(os.unlink, script.name)
        os.chmod(script.name, 0o755)
        with unittest.mock.patch.dict(os.environ, KNIT_DAEMON=script.name), LedgerDaemon() as daemon, \
                daemon.tcp() as rpc, Caller(daemon.url('shm'), 'hold', 1, 2, 1) as caller:
            caller.wait_ready()
            running = rpc.request('hold', 1, 1)
            daemon.ledger.wait_for(1)
            daemon.ledger.wait_for(2)
            self.assertEqual(os.getpgid(daemon.pid), daemon.pid)
            os.killpg(daemon.pid, signal.SIGINT)
            wait_until(lambda: 'msg=draining' in daemon.log(), 'it to drain')
            daemon.ledger.open_gate(1)
            self.assertGreater(rpc.result(running), 0)
            self.assertEqual([o.code for o in caller.outcomes()], [0])
            self.assertEqual(daemon.wait(), 0)

    def test_a_stale_socket_is_replaced_and_a_live_one_refused(self):
        with LedgerDaemon() as first:
            first.expected_status = KILLED
            first.process.kill()
            first.wait()
            with LedgerDaemon(socket=first.socket) as second, \
                    Caller(f'shm://{first.socket}', 'calls', 1, 10, 4) as caller:
                caller.wait_ready()
                second.ledger.wait_for(10)
                caller.go_on()
                third = subprocess.run([os.environ['KNIT_DAEMON'], '--listen=none', f'--socket={first.socket}',
                                        '--worker-program', os.environ['KNIT_WORKER'],
                                        '--module', os.environ['KNIT_LEDGER']],
                                       capture_output=True, text=True, timeout=30)
                self.assertEqual(third.returncode, 1)
                self.assertIn(first.socket, third.stderr)
                self.assertEqual(third.stderr.count('\n'), 1, third.stderr)
                second.ledger.open_gate(1)
                self.assertEqual([o.code for o in caller.outcomes()], [0] * 5)


if __name__ == '__main__':
    main()
