# SPDX-License-Identifier: Apache-2.0
"""Who calls: tokens in `$/hello`, users on the unix socket, and what those get of whom nothing is known."""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import msgpack

from knit_harness import PATIENCE, Case, Daemon, Rpc, RpcError, main, wait_until

NO_NAME = 'level=warning msg="nobody can say who they are there, as require_authentication wants: there is no tokens'
DENIED, UNAUTHENTICATED, BAD_ARGUMENT, CANCELLED = 301, 103, 302, 304
NIGHTLY, NIGHTLY_NEXT, BILLING = 'nightly-0123456789abcdef', 'nightly-next-0123456789', b'\x00\xff' * 16


def line(name, token):
    data = token if isinstance(token, bytes) else token.encode()
    return f'{name} sha256:{hashlib.sha256(data).hexdigest()}\n'


TOKENS = '# callers\n\n' + line('nightly', NIGHTLY) + line('nightly', NIGHTLY_NEXT) + line('billing', BILLING)


class Tokens:
    """A daemon with a file of tokens."""

    def __init__(self, text=TOKENS, **options):
        self.options, self.text = options, text

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='knit-')
        self.path = os.path.join(self.folder, 'tokens')
        self.write(self.text)
        try:
            self.daemon = Daemon(tokens=self.path, **self.options)
        except AssertionError:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *details):
        try:
            self.daemon.__exit__(*details)
        finally:
            shutil.rmtree(self.folder)

    def write(self, text):
        with open(self.path, 'w') as file:
            file.write(text)

    def reload(self, message='msg=reloaded'):
        count = self.daemon.log().count(message)
        self.daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: self.daemon.log().count(message) > count, message)


def hello(rpc, token=None):
    params = {'name': 'test'}
    if token is not None:
        params['token'] = token
    return rpc.call('$/hello', params)


class WithToken(Case):
    def test_a_token_says_who_calls(self):
        with Tokens() as tokens:
            for token, name in ((NIGHTLY, 'token:nightly'), (NIGHTLY_NEXT, 'token:nightly'), (BILLING, 'token:billing')):
                for transport, connect in tokens.daemon.transports():
                    with self.subTest((name, transport)), connect() as rpc:
                        self.assertEqual(hello(rpc, token)['principal'], name)
                        self.assertEqual(rpc.call('add', 2, 3), 5)
                        self.assertEqual(hello(rpc)['principal'], name)
            self.assertEqual(tokens.daemon.stats()['loops']['authentications'], 6)
            self.assertNotIn('0123456789', tokens.daemon.log())

    def test_a_user_is_known_without_one(self):
        with Tokens() as tokens, tokens.daemon.unix() as rpc:
            self.assertEqual(rpc.call('add', 2, 3), 5)
            self.assertEqual(hello(rpc)['principal'], f'uid:{os.getuid()}')

    def test_a_wrong_token_closes(self):
        with Tokens() as tokens:
            for wrong in ('', 'x', NIGHTLY[:-1], NIGHTLY + ' ', NIGHTLY[:-1] + 'F', b'\x00' * 32, 'y' * 5000):
                for transport, connect in tokens.daemon.transports():
                    with self.subTest((wrong, transport)), connect() as rpc:
                        try:
                            hello(rpc, wrong)
                            self.fail('it was taken')
                        except RpcError as error:
                            self.assertEqual(error.code, UNAUTHENTICATED)
                            self.assertIn("the token is nobody's", error.text)
                            self.assertEqual(error.details['started'], 'no')
                        except EOFError:
                            pass  # of so many failures some get no answer
                        self.assertTrue(rpc.is_closed_by_peer())
            self.assertEqual(tokens.daemon.stats()['loops']['authentications_failed'], 14)
            # One address, one user: a line each.
            self.assertEqual(tokens.daemon.log().count('authentication failed'), 2)
            self.assertIn("the token is nobody's", tokens.daemon.log())
            # Nobody is locked out.
            with tokens.daemon.tcp() as rpc:
                self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')

    def test_a_notification_is_taken_too(self):
        with Tokens() as tokens, tokens.daemon.tcp() as rpc, tokens.daemon.tcp() as wrong:
            rpc.notify('$/hello', {'name': 'test', 'token': NIGHTLY})
            self.assertEqual(rpc.call('add', 2, 3), 5)
            wrong.notify('$/hello', {'name': 'test', 'token': 'wrong-0123456789abcdef'})
            self.assertTrue(wrong.is_closed_by_peer())

    def test_a_token_that_the_policy_alone_knows_is_said(self):
        """Most often its name is misspelt, and then a `deny` for it denies nobody anything."""
        with tempfile.TemporaryDirectory(prefix='knit-') as folder:
            policy = os.path.join(folder, 'policy')
            with open(policy, 'w') as file:
                file.write('[group g]\nmembers = token:* token:nightli token:billing anonymous\nallow = *\n'
                           '[principal token:biling]\ndeny = add\n[principal token:nightly]\nallow = *\n')
            with Tokens(policy=policy) as tokens:
                line = 'level=warning msg="the policy names a token that there is not"'
                for number, name in (2, 'nightli'), (4, 'biling'):
                    self.assertEqual(tokens.daemon.log().count(f'{line} file={policy} line={number} pattern=token:{name}\n'), 1)
                self.assertEqual(tokens.daemon.log().count(line), 2)
                tokens.write('')
                tokens.reload(f'{line} file={policy} line=6 pattern=token:nightly\n')

    def test_a_daemon_without_tokens_takes_none(self):
        with Daemon() as daemon, daemon.tcp() as rpc:
            self.assertIn('no tokens', self.assert_fails(UNAUTHENTICATED, hello, rpc, NIGHTLY).text)
            self.assertTrue(rpc.is_closed_by_peer())

    def when_free(self, rpc, token):
        """The principal by that token, taken when nothing is in flight any more."""
        def taken():
            try:
                return hello(rpc, token)['principal']
            except RpcError as error:
                self.assertEqual(error.code, DENIED)
                return None
        return wait_until(taken, 'the slot to be free')

    def test_a_principal_is_changed_once_and_with_nothing_in_flight(self):
        with Tokens() as tokens:
            with tokens.daemon.unix() as rpc:
                busy = rpc.request('sleep', 3600000)
                error = self.assert_fails(DENIED, hello, rpc, NIGHTLY)
                self.assertIn('while nothing is in flight', error.text)
                rpc.notify('$/cancel', busy)
                self.assert_fails(CANCELLED, rpc.result, busy)
                self.assertEqual(self.when_free(rpc, NIGHTLY), 'token:nightly')
                self.assertIn('already', self.assert_fails(DENIED, hello, rpc, BILLING).text)
                self.assertEqual(hello(rpc)['principal'], 'token:nightly')
                self.assertEqual(rpc.call('add', 2, 3), 5)

    def test_nothing_in_flight_means_the_slot_too(self):
        """A call that was cancelled has its answer at once, and its slot when its task has ended."""
        with Tokens() as tokens, tokens.daemon.unix() as rpc:
            busy = rpc.request('sleep', 300)
            rpc.notify('$/cancel', busy)
            try:
                rpc.result(busy)
            except RpcError:
                pass
            self.assertEqual(self.when_free(rpc, NIGHTLY), 'token:nightly')


class Reload(Case):
    def test_tokens_are_read_again(self):
        with Tokens() as tokens, tokens.daemon.tcp() as old, tokens.daemon.tcp() as kept, tokens.daemon.unix() as user:
            hello(old, NIGHTLY)
            hello(kept, NIGHTLY_NEXT)
            tokens.write(line('nightly', NIGHTLY_NEXT) + line('fresh', BILLING))
            tokens.reload()
            self.assertTrue(old.is_closed_by_peer())
            self.assertIn('its token is gone', tokens.daemon.log())
            self.assertEqual(kept.call('add', 2, 3), 5)
            self.assertEqual(user.call('add', 2, 3), 5)
            with tokens.daemon.tcp() as rpc:
                self.assertEqual(hello(rpc, BILLING)['principal'], 'token:fresh')
            with tokens.daemon.tcp() as rpc:
                self.assert_fails(UNAUTHENTICATED, hello, rpc, NIGHTLY)

    def test_a_bad_file_changes_nothing(self):
        with Tokens() as tokens, tokens.daemon.tcp() as old:
            hello(old, NIGHTLY)
            tokens.write(TOKENS + 'more\n')
            tokens.reload('not reloaded: nothing has changed')
            self.assertIn('tokens:6: expected NAME', tokens.daemon.log())
            self.assertEqual(old.call('add', 2, 3), 5)
            with tokens.daemon.tcp() as rpc:
                self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')

    def test_nobody_could_say_a_token_there(self):
        with self.assertRaisesRegex(AssertionError, '0.0.0.0:0, and nobody could say who they are there'):
            with Tokens(listen='0.0.0.0:0'):
                pass

    def test_a_bad_file_refuses_the_start(self):
        with self.assertRaisesRegex(AssertionError, 'server.tokens: .*:1: expected NAME sha256:DIGEST'):
            with Tokens('nightly secret\n'):
                pass


class Unencrypted(Case):
    """In a network of its own, with an address that is not the loopback one."""

    address = '10.77.0.1'

    def test_a_token_over_a_network_is_refused(self):
        command = ['unshare', '-rn', sys.executable, '-B', __file__, 'Unencrypted.inside']
        if subprocess.run([*command[:2], 'true'], capture_output=True, timeout=30).returncode != 0:
            self.skipTest('there are no network namespaces here')
        done = subprocess.run(command, capture_output=True, text=True, timeout=10 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def inside(self):
        set_up('lo', None)
        set_up('lo:1', self.address)
        with Tokens(listen='0.0.0.0:0', allow_remote_without_authentication='on') as tokens:
            def connect(address):
                port = int(tokens.daemon.urls[0].rsplit(':', 1)[1])
                return Rpc(socket.create_connection((address, port), timeout=PATIENCE))
            with connect('127.0.0.1') as rpc:
                self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')
            for token in NIGHTLY, 'wrong-0123456789abcdef':
                with self.subTest(token), connect(self.address) as rpc:
                    error = self.assert_fails(UNAUTHENTICATED, hello, rpc, token)
                    self.assertIn('unencrypted', error.text)
                    self.assertTrue(rpc.is_closed_by_peer())
            with connect(self.address) as rpc:
                self.assertEqual(hello(rpc)['principal'], 'anonymous')
                self.assert_fails(UNAUTHENTICATED, rpc.call, 'add', 2, 3)
            self.assertIn('make a new one', tokens.daemon.log())


def set_up(name, address):
    """An interface, with an address where one is given."""
    with socket.socket() as sock:
        if address is not None:
            request = struct.pack('16sHH4s8x', name.encode(), socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(sock, 0x8916, request)  # SIOCSIFADDR
        fcntl.ioctl(sock, 0x8914, struct.pack('16sH14x', name.encode(), 1))  # SIOCSIFFLAGS, IFF_UP


class Strangers(Case):
    def test_they_may_say_hello_and_ping(self):
        with Tokens() as tokens, tokens.daemon.tcp() as rpc:
            self.assertEqual(rpc.call('$/ping', 7), 7)
            self.assertEqual(hello(rpc)['principal'], 'anonymous')
            for method, *params in (('add', 2, 3), ('no_such_task',), ('$/tasks', {}), ('$/stats',), ('$/cancel', 1),
                                    ('$/attach', {}), ('$/lift', 'add'), ('$/nothing',)):
                with self.subTest(method):
                    error = self.assert_fails(UNAUTHENTICATED, rpc.call, method, *params)
                    self.assertEqual(error.details['started'], 'no')
                    self.assertIn('$/hello', error.text)
            rpc.notify('add', 2, 3)
            self.assertEqual(rpc.call('$/ping', 8), 8)
            self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')
            self.assertEqual(rpc.call('add', 2, 3), 5)
            loops = tokens.daemon.stats()['loops']
            self.assertEqual(loops['strangers_refused'], 9)
            self.assertEqual(loops['calls_published'], 1)

    def test_a_call_right_behind_the_token_is_taken(self):
        with Tokens() as tokens, tokens.daemon.tcp() as rpc:
            rpc.send(msgpack.packb([0, 1, 'add', [1, 1]]) +
                     msgpack.packb([0, 2, '$/hello', [{'name': 'a', 'token': NIGHTLY}]]) +
                     msgpack.packb([0, 3, 'add', [2, 3]]))
            self.assert_fails(UNAUTHENTICATED, rpc.result, 1)
            rpc.result(2)
            self.assertEqual(rpc.result(3), 5)

    def test_what_they_may_send_is_bounded(self):
        with Tokens() as tokens:
            for size in (1000, 60000, 10 << 20):
                with self.subTest(size), tokens.daemon.tcp() as rpc:
                    ping = msgpack.packb([2, '$/ping', [b'x' * size]])
                    try:
                        for _ in range(1 + (1 << 20) // size):
                            rpc.send(ping)
                    except (BrokenPipeError, ConnectionResetError):
                        pass
                    self.assertTrue(rpc.is_closed_by_peer())
            loops = tokens.daemon.stats()['loops']
            self.assertEqual(loops['strangers_dropped'], 3)
            self.assertLess(loops['bytes_in'], 4 * 65536)
            self.assertIn('it sent 64 KiB', tokens.daemon.log())

    def test_what_they_are_answered_is_bounded(self):
        with Tokens() as tokens, tokens.daemon.tcp() as rpc:
            received = 0
            try:
                rpc.send(msgpack.packb([0, 1, '$/hello', [{'name': 'a'}]]) * 2000)
                while data := rpc.sock.recv(1 << 20):
                    received += len(data)
            except ConnectionResetError:
                pass
            self.assertLessEqual(received, 65536)
            self.assertEqual(tokens.daemon.stats()['loops']['strangers_dropped'], 1)

    def test_they_have_ten_seconds(self):
        with Tokens() as tokens, tokens.daemon.tcp() as known:
            hello(known, NIGHTLY)
            began = time.monotonic()
            rpc = self.enterContext(tokens.daemon.tcp())
            rpc.sock.settimeout(10 * PATIENCE)
            rpc.call('$/ping')
            self.assertTrue(rpc.is_closed_by_peer())
            self.assertGreater(time.monotonic() - began, 9.99)
            self.assertIn('for ten seconds', tokens.daemon.log())
            self.assertEqual(known.call('add', 2, 3), 5)

    def test_there_are_256_and_the_oldest_of_the_most_goes(self):
        with Tokens(threads_io=1) as tokens:
            strangers = [tokens.daemon.tcp() for _ in range(257)]
            self.assertTrue(strangers[0].is_closed_by_peer())
            self.assertEqual(strangers[1].call('$/ping', 1), 1)
            self.assertEqual(strangers[256].call('$/ping', 1), 1)
            with tokens.daemon.tcp() as rpc:
                self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')
            self.assertEqual(tokens.daemon.stats()['loops']['strangers_dropped'], 2)
            for rpc in strangers:
                rpc.close()

    def test_a_flood_of_them_harms_nobody_who_is_known(self):
        """2,000 connections that send much of a message and no more. The aim is 20 MB at most, of a daemon of little."""
        flood = msgpack.packb([2, '$/ping', [b'x' * 60000]])[:50000]
        with Tokens() as tokens, tokens.daemon.tcp() as known:
            hello(known, NIGHTLY)
            before, times, attackers = tokens.daemon.memory_kb(), [], []
            for i in range(2000):
                attackers.append(tokens.daemon.tcp())
                try:
                    attackers[-1].send(flood)
                except OSError:
                    pass  # it was closed for another
                if i % 20 == 0:
                    began = time.monotonic()
                    self.assertEqual(known.call('add', 2, 3), 5)
                    times.append(time.monotonic() - began)
                    with tokens.daemon.tcp() as rpc:
                        self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')
                        self.assertEqual(rpc.call('add', 2, 3), 5)
                if i % 500 == 499:
                    for rpc in attackers[:-200]:
                        rpc.close()
                    del attackers[:-200]
            after, loops = tokens.daemon.memory_kb(), tokens.daemon.stats()['loops']
            for rpc in attackers:
                rpc.close()
        times.sort()
        print(f'2,000 strangers: {after - before} kB; a call of a known one {times[len(times) // 2] * 1e6:.0f} us in the '
              f'median, {times[-1] * 1e3:.1f} ms at worst; {loops["strangers_dropped"]} dropped')
        self.assertGreater(loops['strangers_dropped'], 1000)
        self.assertLess(after - before, 20000)
        self.assertLess(times[-1], PATIENCE / 10)

    def test_the_check_says_where_nobody_can_say_who_they_are(self):
        for options, count in (({}, 1), ({'listen': 'none'}, 0), ({'require_authentication': 'auto'}, 0)):
            with Daemon('--check-config', wait=False, **{'require_authentication': 'on', **options}) as daemon:
                daemon.wait()
                self.assertEqual(daemon.log().count(NO_NAME), count, daemon.log())
        with Tokens() as tokens:
            self.assertIn('callers="who say who they are"', tokens.daemon.log())
            self.assertNotIn('nobody can say', tokens.daemon.log())

    def test_authentication_may_be_asked_for_without_tokens_and_the_reverse(self):
        with Daemon(require_authentication='on') as daemon, daemon.tcp() as rpc, daemon.unix() as user:
            self.assert_fails(UNAUTHENTICATED, rpc.call, 'add', 2, 3)
            self.assertEqual(user.call('add', 2, 3), 5)
            self.assertRegex(daemon.log(), f'msg=listening address=127.0.0.1:[0-9]+ tls=off callers=nobody\n.*{NO_NAME}')
            self.assertEqual(daemon.log().count(NO_NAME), 1)
        with tempfile.NamedTemporaryFile('w', prefix='knit-policy-') as policy:
            policy.write('[principal anonymous]\nallow = add\n[principal token:nightly]\nallow = *\n')
            policy.flush()
            with Tokens(policy=policy.name) as tokens, tokens.daemon.tcp() as rpc:
                self.assertEqual(rpc.call('add', 2, 3), 5)
                self.assert_fails(DENIED, rpc.call, 'echo', 1)
                hello(rpc, NIGHTLY)
                self.assertEqual(rpc.call('echo', 1), 1)
                policy.truncate(0)
                tokens.reload()
                with tokens.daemon.tcp() as other:
                    self.assert_fails(UNAUTHENTICATED, other.call, 'add', 2, 3)
            with Tokens(policy=policy.name, require_authentication='on') as tokens, tokens.daemon.tcp() as rpc:
                self.assert_fails(UNAUTHENTICATED, rpc.call, 'add', 2, 3)
        with Tokens(require_authentication='off') as tokens, tokens.daemon.tcp() as rpc:
            self.assertEqual(rpc.call('add', 2, 3), 5)
            self.assertEqual(hello(rpc)['principal'], 'anonymous')
            self.assertEqual(hello(rpc, NIGHTLY)['principal'], 'token:nightly')


if __name__ == '__main__':
    main()
