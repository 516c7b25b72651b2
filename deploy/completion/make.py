#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a shell's completion of knit: fills a template with the commands and options that the tool itself names.

    deploy/completion/make.py KNIT TEMPLATE        to standard output; the template's suffix is the shell
"""

import json
import os
import subprocess
import sys


def quoted(text):
    """As bash and zsh read it between single quotes."""
    return "'" + text.replace('\n', ' ').replace("'", "'\\''") + "'"


def words_of(option):
    return [f'--{option["name"]}'] + ([f'-{option["letter"]}'] if option['letter'] else [])


def tasks_of(commands):
    return [command['name'] for command in commands if command['completes'].startswith('task')]


def bash(commands, options):
    def of(command):
        return ' '.join(word for option in options if option['name'] in command['options'] for word in words_of(option))
    rows = [f"    {command['name']},-*) offered='{of(command)}' ;;" for command in commands if command['options']]
    rows.append(f"    ,-*) offered='{' '.join(word for option in options for word in words_of(option))}' ;;")
    return {
        'VALUES': ' | '.join(word for option in options if option['value'] for word in words_of(option)),
        'OPTIONS': '\n'.join(rows),
        'COMMANDS': ' '.join(command['name'] for command in commands),
        'TASKS': ' | '.join(f'{name},0,*' for name in tasks_of(commands)),
    }


def zsh(commands, options):
    def escaped(text):
        return text.replace('\n', ' ').replace("'", "'\\''").replace('[', '\\[').replace(']', '\\]').replace(':', '\\:')

    def spec(option):
        """'(-u --url)'{-u,--url=}'[summary]:URL: '"""
        names = sorted(words_of(option), key=len)
        value = f':{option["value"]}: ' if option['value'] else ''
        long = names[-1] + ('=' if option['value'] else '')
        if len(names) == 1:
            return f"'{long}[{escaped(option['summary'])}]{value}'"
        short = names[0] + ('+' if option['value'] else '')
        return f"'({' '.join(names)})'{{{short},{long}}}'[{escaped(option['summary'])}]{value}'"

    def row(command):
        what = {'task': ["'1:task:_knit_tasks'", "'*:argument:_knit_argument'"] if command['name'] == 'call'
                else ["'1:task:_knit_tasks'"],
                'task file': ["'1:task:_knit_tasks'", "'2:file:_files'"], 'pid': ["'1:process id:_pids'"],
                'command': ["'1:command:_knit_commands'"]}.get(command['completes'], [])
        own = [spec(option) for option in options if option['name'] in command['options']]
        lines = ' \\\n      '.join(['_arguments -s', *own, *what])
        return f"  {command['name']})\n    {lines}\n    ;;"
    return {
        'COMMANDS': '\n'.join(f"    '{command['name']}:{escaped(command['summary'])}'" for command in commands),
        'OPTIONS': '\n'.join(f'    {spec(option)} \\' for option in options),
        'ARGUMENTS': '\n'.join(row(command) for command in commands if command['options']),
    }


def fish(commands, options):
    def escaped(text):
        return "'" + text.replace('\n', ' ').replace('\\', '\\\\').replace("'", "\\'") + "'"

    def option_line(option):
        having = ' '.join(command['name'] for command in commands if option['name'] in command['options'])
        where = f" -n '__knit_command; or __knit_command {having}'"
        letter = f' -s {option["letter"]}' if option['letter'] else ''
        value = ' -x' if option['value'] else ''
        return f"complete -c knit{where}{letter} -l {option['name']}{value} -d {escaped(option['summary'])}"
    names = ' '.join(command['name'] for command in commands)
    lines = [f"complete -c knit -n __knit_command -a {command['name']} -d {escaped(command['summary'])}"
             for command in commands]
    lines += [option_line(option) for option in options]
    lines += [f"complete -c knit -n '__knit_at 0 {' '.join(tasks_of(commands))}' -a '(__knit_tasks)'",
              "complete -c knit -n '__knit_at 1 batch' -F",
              "complete -c knit -n '__knit_at 0 check' -a '(pgrep -x knittingd)'",
              f"complete -c knit -n '__knit_at 0 help' -a '{names}'"]
    return {'LINES': '\n'.join(lines),
            'VALUES': ' '.join(word for option in options if option['value'] for word in words_of(option))}


def main():
    knit, template = sys.argv[1:]
    table = json.loads(subprocess.run([knit, '--json', 'help'], check=True, capture_output=True, text=True).stdout)
    shell = os.path.splitext(template)[1][1:]
    with open(template, encoding='utf-8') as file:
        text = file.read()
    for name, value in {'bash': bash, 'zsh': zsh, 'fish': fish}[shell](table['commands'], table['options']).items():
        text = text.replace(f'@{name}@', value)
    sys.stdout.write(text)


if __name__ == '__main__':
    main()
