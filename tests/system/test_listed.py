# SPDX-License-Identifier: Apache-2.0
"""Modules that make their tasks when they are loaded."""

import os

from knit_harness import Case, Daemon, main

LIST = os.environ['KNIT_LIST_MODULE']
LIST_FAILS = os.environ['KNIT_LIST_FAILS_MODULE']


class Listed(Case):
    def test_one_function_is_many_tasks(self):
        with Daemon(module=LIST) as daemon:
            for _, connect in daemon.transports():
                with connect() as rpc:
                    self.assertEqual(len(rpc.call('$/tasks')['tasks']), 50)
                    self.assertEqual([rpc.call(f'number_{i}', 1000) for i in (0, 7, 49)], [1000, 1007, 1049])

    def test_a_list_that_fails_is_the_reason(self):
        with self.assertRaisesRegex(AssertionError, r'list_fails.so: its list of tasks failed with 3: there are none'):
            Daemon(module=LIST_FAILS)


main()
