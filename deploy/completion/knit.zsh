#compdef knit
# SPDX-License-Identifier: Apache-2.0
# Completion of knit for zsh.
_knit_tasks() {
  local -a names
  local url=${(v)opt_args[(i)(--url|-u)]}
  names=(${(f)"$(knit -t 500 ${url:+-u} $url tasks 2>/dev/null </dev/null | sed -n 's/^\([^ (]*\)(.*/\1/p')"})
  compadd -a names
}

_knit_argument() {
  if compset -P '@(text:|json:|)'; then
    _files
  fi
}

_knit_commands() {
  local -a commands
  commands=(
@COMMANDS@
  )
  _describe command commands
}

_knit() {
  local state line
  typeset -A opt_args
  _arguments -C -s \
@OPTIONS@
    '1:command:_knit_commands' \
    '*::argument:->argument'
  [[ $state == argument ]] || return
  case $words[1] in
@ARGUMENTS@
  esac
}

if [[ $funcstack[1] == _knit ]]; then
  _knit "$@"
else
  compdef _knit knit
fi
