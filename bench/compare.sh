#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures Knitting and other systems doing the same work, and prints one table with ratios.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: bench/compare.sh [OPTION...]

An argument goes to one worker and comes back, one call at a time, 64 in flight, and in batches of 1 to 1000, by Knitting and
by other systems. Those are unpacked from Debian's packages (piscina: npm's) into a folder of their own, never installed, and talk over
loopback alone. One that cannot be had is reported as skipped. Two do no work for anybody: bare is bytes to another process
over TCP and back, redis-echo a server that answers by itself. Batches are measured where calls share a machine's memory or
pipes, beside the floor of two counters in memory.

  --build DIR      build folder (build, beside bench); must be built
  --work DIR       what is fetched and built lies here and is kept (BUILD/peers)
  --rounds N       measure everything N times, in turns (7)
  --seconds X      of each case in a round (0.3)
  --only NAME      a peer by its name; may be given several times
  --js PATH        one more peer: a JavaScript pool, by the folder of an installed copy or a file that drives one
                   (peers/pool.mjs says what it exports, peers/messages.mjs is a sample); may be given several times
  --out PREFIX     writes PREFIX with .json, .md, .svg and -batches.svg behind it (WORK/compare); the last by gnuplot
  --list           names them
TEXT
}

# Name, what it is (net: a worker over the network; pipes: one on this machine by pipes; threads: one in the caller's process;
# bare: no worker), what it needs, how its program is built, which server or interpreter it runs.
peers='
bare           bare     -                                    bare.c                 -lpthread  -
redis-echo     bare     redis-server,libhiredis-dev          redis_echo.c           -lhiredis  redis-server
redis-queue    net      redis-server,libhiredis-dev          redis_queue.c          -lhiredis  redis-server
gearmand       net      gearman-job-server,libgearman-dev    gearman.c              -lgearman  gearmand
nats           net      nats-server,libnats-dev              nats.c                 -lnats     nats-server
grpc           net      libgrpc++-dev,libprotobuf-dev,protobuf-compiler,protobuf-compiler-grpc  grpc.cc  -lgrpc++,-lgrpc,-lgpr,-lprotobuf,-labsl_synchronization  -
capnproto      net      capnproto,libcapnp-dev               capnproto.cc           -lcapnp-rpc,-lcapnp,-lkj-async,-lkj  -
zeromq         net      libzmq3-dev                          zeromq.c               -lzmq      -
nng            net      libnng-dev                           nng.c                  -lnng      -
fork-pool      pipes    -                                    fork_pool.c            -lpthread  -
thread-pool    threads  -                                    thread_pool.c          -lpthread  -
multiprocessing  pipes  -                                    multiprocessing_pool.py  -        python3
zeromq-inproc  threads  libzmq3-dev                          -DINPROC,zeromq.c      -lzmq      -
messages       threads  -                                    messages.mjs           -          node
piscina        threads  npm:piscina                          piscina.mjs            -          node
'

build=$here/../build work='' rounds=7 seconds=0.3 only='' out='' scripts=()
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --work) work=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --only) only="$only $2"; shift ;;
    --js) scripts+=("$2"); shift ;;
    --out) out=$2; shift ;;
    --list) awk 'NF { print $1 }' <<<"$peers"; exit 0 ;;
    --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
for script in "${scripts[@]}"; do
  name=$(basename "${script%.mjs}")
  script=$(realpath -m "$script")
  peers+="$name threads $script $script - node"$'\n'
done
for name in $only; do
  if ! grep -q "^$name " <<<"$peers"; then
    echo "compare.sh: there is no peer $name; --list names them" >&2
    exit 2
  fi
done

build=$(cd "$build" && pwd)
mkdir -p "${work:=$build/peers}"
work=$(cd "$work" && pwd)
out=${out:-$work/compare}
root=$work/root triplet=$(cc -dumpmachine)
libraries=$root/usr/lib/$triplet
mkdir -p "$root" "$libraries" "$work/packages" "$work/bin" "$work/log"

scratch=$(mktemp -d)
. "$here/daemon.sh"
trap finish EXIT

# ---- fetching and building -------------------------------------------------------------------------------------------

# Unpacks the packages, and those they need that are not installed. A name whose stamp is there is done.
fetch()
{
  local name=$1 list package packages
  if [ "$2" = - ] || [ -e "$work/packages/$name.done" ]; then
    return 0
  elif [[ $2 = /* ]]; then
    [ -e "$2" ]
    return
  elif [[ $2 = npm:* ]]; then
    npm install --prefix "$work/npm" --no-audit --no-fund "${2#npm:}" && touch "$work/packages/$name.done"
    return
  fi
  IFS=, read -ra packages <<<"$2"
  list=$(apt-get install --simulate --no-install-recommends "${packages[@]}" | awk '$1 == "Inst" { print $2 }') ||
    return 1
  for package in $list; do
    [ ! -e "$work/packages/$package.unpacked" ] || continue
    (cd "$scratch" && apt-get download "$package" && dpkg -x "${package}"_*.deb "$root" && rm "${package}"_*.deb) ||
      return 1
    touch "$work/packages/$package.unpacked"
  done
  link_libraries
  touch "$work/packages/$name.done"
}

# What a -dev package links to may be installed rather than unpacked.
link_libraries()
{
  local link target
  for link in "$libraries"/*.so; do
    if [ -L "$link" ] && [ ! -e "$link" ]; then
      target=/usr/lib/$triplet/$(basename "$(readlink "$link")")
      [ ! -e "$target" ] || ln -sf "$target" "$link"
    fi
  done
}

# What all programs share: the load, and where libraries lie.
harness=("-L$libraries" "-Wl,-rpath,$libraries" "-Wl,-rpath-link,$libraries" "-Wl,--allow-shlib-undefined")
build_harness()
{
  local source object
  for source in peers/peer histogram machine ticks typical; do
    object=$work/bin/$(basename $source).o
    cc -O2 -D_GNU_SOURCE -I"$here/.." -c -o "$object" "$here/$source.c"
    harness=("$object" "${harness[@]}")
  done
  cc -O2 -D_GNU_SOURCE -I"$here/.." -I"$here/../clients/include" -o "$work/bin/knitting" "$here/peers/knitting.c" \
    "${harness[@]}" -L"$build/clients" -Wl,-rpath,"$build/clients" -lknitting -lm -lpthread
}

build_peer()
{
  local name=$1 sources libraries_of
  local include=(-I"$here/.." -isystem "$root/usr/include")
  IFS=, read -ra sources <<<"$2"
  IFS=, read -ra libraries_of <<<"$3"
  case $2 in
    /* | *.mjs)
      build_script "$name" "$here/peers/pool.mjs" "$(cd "$here/peers" && realpath "$2")" "$work/npm/node_modules"
      return ;;
    *.py)
      build_script "$name" "$here/peers/$2"
      return ;;
    grpc.cc)
      LD_LIBRARY_PATH=$libraries "$(find_program protoc)" -I"$here/peers" --cpp_out="$scratch" --grpc_out="$scratch" \
        --plugin=protoc-gen-grpc="$(find_program grpc_cpp_plugin)" grpc.proto
      sources+=("$scratch"/grpc.pb.cc "$scratch"/grpc.grpc.pb.cc) ;;
    capnproto.cc)
      LD_LIBRARY_PATH=$libraries "$(find_program capnp)" compile --no-standard-import --src-prefix="$here/peers" \
        -o"$(find_program capnpc-c++)":"$scratch" "$here/peers/capnproto.capnp"
      mv "$scratch"/capnproto.capnp.c++ "$scratch"/capnproto.capnp.cc
      sources+=("$scratch"/capnproto.capnp.cc) ;;
  esac
  if [[ $2 = *.cc ]]; then
    (cd "$here/peers" && c++ -std=c++17 -O2 "${include[@]}" -I"$scratch" -o "$work/bin/$name" "${sources[@]}" \
      "${harness[@]}" "${libraries_of[@]}" -lm -lpthread)
  else
    (cd "$here/peers" && cc -O2 -D_GNU_SOURCE "${include[@]}" -o "$work/bin/$name" "${sources[@]}" "${harness[@]}" \
      "${libraries_of[@]}" -lm -lpthread)
  fi
}

# "-s node" comes before the other arguments, as with every server.
build_script()
{
  local name=$1
  shift
  printf '#!/bin/sh\nshift; by=$1; shift; exec "$by" %s "$@"\n' "$(printf '"%s" ' "$@")" >"$work/bin/$name"
  chmod +x "$work/bin/$name"
}

find_program()
{
  local at
  for at in "$root"/usr/{bin,sbin}/"$1" /usr/{bin,sbin}/"$1"; do
    if [ -x "$at" ]; then
      echo "$at"
      return 0
    fi
  done
  command -v "$1"
}

# ---- running ---------------------------------------------------------------------------------------------------------

batches=(1 4 16 64 256 1000)

# Lines of JSON with name, kind and round in front. A batch needs a program that keeps its calls apart: peer.h.
run()
{
  local name=$1 kind=$2 round=$3 cases=(1:64 64:64 1:65536 64:65536)
  shift 3
  case $name,$kind in
    knitting-shm,* | bare,* | *,pipes | *,threads) cases+=($(printf 'b%d:64 ' "${batches[@]}")) ;;
  esac
  LD_LIBRARY_PATH=$libraries timeout 300 "$@" -t "$seconds" "${cases[@]}" 2>>"$work/log/$name" |
    sed "s/^{/{\"name\": \"$name\", \"kind\": \"$kind\", \"round\": $round, /" >>"$scratch/figures" ||
    echo "{\"name\": \"$name\", \"round\": $round, \"skipped\": \"it failed: $work/log/$name\"}" >>"$scratch/figures"
}

# In turns with the others, as a floor has to be.
floors()
{
  "$build/bench/knit-bench" --cases="$scratch/floors" --rounds=1 --seconds="$seconds" --format=json |
    python3 -c '
import json, sys
for row in json.load(sys.stdin)["rows"]:
    print(json.dumps({"name": "floor", "kind": "floor", "round": int(sys.argv[1]), "bytes": 64, "batch": True,
                      "depth": int(row["conns x depth"].split()[-1]), "rate": row["calls/s"],
                      "p50_ns": row["p50_us"] * 1000, "p99_ns": row["p99_us"] * 1000}))' "$1" >>"$scratch/figures"
}

skip()
{
  echo "{\"name\": \"$1\", \"skipped\": \"$2\"}" >>"$scratch/figures"
  echo "skipped $1: $2" >&2
}

declare -A server_of kind_of
ready=()

prepare()
{
  local name kind packages sources library server
  # A fresh image has no lists of packages; only root may fetch them.
  if [ "$(id -u)" = 0 ] && ! apt-cache show libzmq3-dev >/dev/null 2>&1; then
    apt-get update >"$work/log/apt-get" 2>&1 || true
  fi
  # A run of some peers alone fetches no more than these need.
  [ -n "$only" ] || fetch gnuplot gnuplot-nox >"$work/log/gnuplot" 2>&1 || true
  # Unpacked, it has the name of its package.
  if GNUPLOT=$(find_program gnuplot-nox); then export GNUPLOT GNUPLOT_LIBRARIES=$libraries; fi
  while read -r name kind packages sources library server; do
    [ -n "$name" ] || continue
    [ -z "$only" ] || [[ " $only " == *" $name "* ]] || continue
    if ! fetch "$name" "$packages" >"$work/log/$name" 2>&1; then
      skip "$name" "$packages cannot be had: $work/log/$name"
    elif ! build_peer "$name" "$sources" "$library" >>"$work/log/$name" 2>&1; then
      skip "$name" "its program does not build: $work/log/$name"
    elif [ "$server" != - ] && ! find_program "$server" >/dev/null; then
      skip "$name" "there is no $server"
    else
      [ "$server" = - ] || server_of[$name]=$(find_program "$server")
      kind_of[$name]=$kind
      ready+=("$name")
    fi
  done <<<"$peers"
}

: >"$scratch/figures"
build_harness
prepare
start_daemon
for size in "${batches[@]}"; do
  echo "--url floor:memory --batch $size echo:64"
done >"$scratch/floors"
for round in $(seq "$rounds"); do
  floors "$round"
  for path in knit unix shm; do
    run "knitting-${path/knit/tcp}" own "$round" "$work/bin/knitting" -a "$(url $path)"
  done
  for name in "${ready[@]}"; do
    run "$name" "${kind_of[$name]}" "$round" "$work/bin/$name" ${server_of[$name]:+-s "${server_of[$name]}"}
  done
done
"$here/compare.py" --figures "$scratch/figures" --machine "$("$work/bin/knitting" -m)" --out "$out"
