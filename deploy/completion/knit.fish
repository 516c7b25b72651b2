# SPDX-License-Identifier: Apache-2.0
# Completion of knit for fish.
function __knit_tasks
    set -l words (commandline -opc)
    set -l url (string match -- '--url=*' $words)
    set -l at (contains -i -- -u $words; or contains -i -- --url $words)
    and set url --url=$words[(math $at + 1)]
    knit -t 500 $url[1] tasks 2>/dev/null </dev/null | string match -rg '^([^ (]+)\('
end

# The command and its operands, as far as they are there.
function __knit_operands
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        switch $words[1]
            case @VALUES@
                set -e words[1]
            case '-?*'
            case '*'
                echo $words[1]
        end
        set -e words[1]
    end
end

# Whether the command is one of the arguments; without any, whether there is none yet.
function __knit_command
    set -l operands (__knit_operands)
    if set -q argv[1]
        contains -- "$operands[1]" $argv
    else
        not set -q operands[1]
    end
end

# The same, and it has that many operands.
function __knit_at
    test (count (__knit_operands)) -eq (math $argv[1] + 1); and __knit_command $argv[2..]
end

complete -c knit -f
@LINES@
