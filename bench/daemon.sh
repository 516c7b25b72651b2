# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: a daemon to measure, with one worker and one event loop, as every figure that others
# are compared with. Expects $build and, for its files, $scratch. More options of the daemon may be given.
# shellcheck shell=bash disable=SC2154
daemon=
under=() # the words of a command that it is started by, such as taskset -c 0

start_daemon()
{
  "${under[@]}" "$build/server/knittingd" --listen 127.0.0.1:0 --admin none --socket "$scratch/socket" --workers 1 --threads-io 1 \
    --worker-program "$build/fastpath/knitting-worker" --module "$build/bench/bench-tasks.so" \
    --module "$build/clients/examples/example.so" --ready-file "$scratch/ready" "$@" >"$scratch/log" 2>&1 &
  daemon=$!
  until [ -s "$scratch/ready" ]; do
    if ! kill -0 "$daemon" 2>/dev/null; then
      daemon=
      cat "$scratch/log" >&2
      exit 1
    fi
    sleep 0.05
  done
}

# The daemon's address by its scheme.
url()
{
  sed -n "s|^url=\($1:.*\)|\1|p" "$scratch/ready" | head -n 1
}

end_daemon()
{
  if [ -n "$daemon" ]; then
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
  fi
  daemon=
  rm -f "$scratch/ready"
}

finish()
{
  end_daemon
  rm -rf "$scratch"
}
