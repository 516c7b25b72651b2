#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a seccomp profile for the image from one of this host: the same, with the system calls allowed that Knitting makes and
older profiles do not know.

    deploy/container/seccomp.py >knitting.json
    podman run --security-opt seccomp=knitting.json ...

It takes the profile by which podman runs containers here, or the one that is named; one of docker's is taken as well
(https://github.com/moby/profiles has it). What it allows beyond that is said on standard error; nothing is said, and the same
profile comes out, where the host needs no other.
"""

import json
import sys

PLACES = ('/etc/containers/seccomp.json', '/usr/share/containers/seccomp.json')

# What each is for. None of them reaches beyond the process that makes it and its children.
NEEDED = {
    'futex_waitv': 'idle workers sleep on the words of all callers; without it the daemon wakes them in their place',
    'landlock_create_ruleset': 'workers confine themselves',
    'landlock_add_rule': 'the same',
    'landlock_restrict_self': 'the same',
    'close_range': 'workers start without descriptors of the daemon',
    'memfd_create': 'the memory of lanes',
    'pidfd_open': 'the daemon knows its workers by descriptors, not by numbers',
    'pidfd_send_signal': 'the same',
    'seccomp': 'workers confine themselves',
}

ALLOW = 'SCMP_ACT_ALLOW'


class Refused(Exception):
    """What was read is no profile."""


def is_for_all(rule):
    """Without conditions: whatever the arguments, capabilities, machine and kernel are."""
    return rule.get('action') == ALLOW and not any(rule.get(key) for key in ('args', 'includes', 'excludes'))


def missing(profile):
    if profile.get('defaultAction') == ALLOW:
        return []
    allowed = set()
    for rule in profile['syscalls']:
        if is_for_all(rule):
            allowed.update(rule.get('names') or [rule['name']])
    return [name for name in NEEDED if name not in allowed]


def made_from(profile):
    """The profile, and the names that it allows beyond the one that it is made from."""
    if not isinstance(profile, dict) or not isinstance(profile.get('syscalls'), list) or 'defaultAction' not in profile:
        raise Refused('there are no "defaultAction" and "syscalls" in it')
    added = missing(profile)
    if not added:
        return profile, added
    # A rule that refuses one of them by name would stand beside the one that allows it, and libseccomp takes neither then.
    rules = []
    for rule in profile['syscalls']:
        names = rule.get('names') or [rule['name']]
        kept = [name for name in names if name not in added]
        if kept:
            rules.append({**{key: value for key, value in rule.items() if key != 'name'}, 'names': kept})
    return {**profile, 'syscalls': [*rules, {'names': added, 'action': ALLOW, 'args': []}]}, added


def read(paths):
    for path in paths:
        try:
            with open(path, encoding='utf-8') as file:
                return path, json.load(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Refused(f'{path}: {error}') from error
    raise Refused(f'no profile is at {" or ".join(paths)}: name one, as the first argument')


def main(arguments):
    if len(arguments) > 1 or arguments[:1] == ['--help']:
        print(__doc__.strip(), file=sys.stdout if arguments == ['--help'] else sys.stderr)
        return 0 if arguments == ['--help'] else 2
    try:
        path, profile = read(arguments or PLACES)
        made, added = made_from(profile)
    except Refused as refused:
        print(f'seccomp.py: {refused}', file=sys.stderr)
        return 1
    for name in added:
        print(f'{path} does not allow {name}: {NEEDED[name]}', file=sys.stderr)
    json.dump(made, sys.stdout, indent=1)
    print()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
