# SPDX-License-Identifier: Apache-2.0
# Completion of knit for bash.
_knit_tasks()
{
  knit -t 500 ${1:+-u "$1"} tasks 2>/dev/null </dev/null | sed -n 's/^\([^ (]*\)(.*/\1/p'
}

# Files whose names begin with $1, each behind $2.
_knit_files()
{
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -P "$2" -f -- "$1")
}

_knit()
{
  local -a words
  local line=${COMP_LINE:0:COMP_POINT} offered='' command='' url='' wants='' word last i operands=0
  COMPREPLY=()
  # COMP_WORDS is cut at = and : too.
  read -ra words <<<"$line"
  [[ $line == *[[:blank:]] ]] && words+=('')
  last=$((${#words[@]} - 1))
  for ((i = 1; i < last; i++)); do
    word=${words[i]}
    if [[ -n $wants ]]; then
      [[ $wants == --url || $wants == -u ]] && url=$word
      wants=
      continue
    fi
    case $word in
      --url=*) url=${word#*=} ;;
      @VALUES@) wants=$word ;;
      -?*) ;;
      *) if [[ -n $command ]]; then operands=$((operands + 1)); else command=$word; fi ;;
    esac
  done
  word=${words[last]}
  [[ -n $wants || $word == -*=* ]] && return
  case $command,$word in
@OPTIONS@
    ,*) offered='@COMMANDS@' ;;
  esac
  case $command,$operands,$word in
    *,*,-?*) ;;
    @TASKS@) offered=$(_knit_tasks "$url") ;;
    call,*,@text:* | call,*,@json:*) _knit_files "${word#*:}" '' ;;
    call,*,@*) _knit_files "${word#@}" @ ;;
    batch,1,*) _knit_files "$word" '' ;;
    check,0,*) offered=$(pgrep -x knittingd) ;;
    help,0,*) offered='@COMMANDS@' ;;
  esac
  [[ -n $offered ]] && mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$word")
}
complete -F _knit knit
