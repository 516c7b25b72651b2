#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Debian packages that Knitting needs, and how the missing ones are installed. Read by deploy/quickstart.sh and
# tests/run.sh (`. deploy/packages.sh`), so that there is one list.
# shellcheck disable=SC2034 # those two use the lists

# To build everything that is installed, and its man pages.
PACKAGES_BUILD=(gcc libc6-dev meson ninja-build pkg-config libevent-dev libmsgpack-dev libssl-dev libjson-c-dev
  libseccomp-dev libcmocka-dev scdoc)

# To run the quickstart: Debian's Python with Debian's msgpack is its client from another language.
PACKAGES_QUICKSTART=(python3 python3-msgpack)

# To run the tests: clang-format for the layout, C++ for the headers, HAProxy as a proxy, the openssl program as an authority and
# as a peer, Neovim and Ruby as foreign clients, Spin for the models, valgrind to count instructions. Debian starts HAProxy when it
# is installed, with nothing to listen on.
PACKAGES_TEST=("${PACKAGES_QUICKSTART[@]}" clang-format g++ git haproxy openssl python3-pynvim neovim ruby ruby-msgpack spin sslscan
  valgrind)

# Of all tests but the quick ones, where the commands are not there by another way: to fetch a client from npm, and to run it.
PACKAGES_NPM=(nodejs npm)

# Of all tests but the quick ones: Prometheus, which reads the metrics and checks them. Debian starts it when it is installed, on
# port 9090. Without it these tests are skipped.
PACKAGES_METRICS=(prometheus)

# Of all tests but the quick ones: what makes a root of Debian's packages and boots its systemd. Without it, and where a machine
# does not let it boot, these tests are skipped.
PACKAGES_BOOT=(mmdebstrap systemd systemd-container)

# Of all tests but the quick ones: podman, with both runtimes that Debian has, since not every machine lets each of them run; docker's
# own program for the compose file; what connects Pods, and reads their manifests. Where podman cannot run a container these tests are
# skipped.
PACKAGES_CONTAINERS=(buildah podman crun runc catatonit docker-compose iproute2 python3-yaml)

# To make the pages for a browser (deploy/site/build.py).
PACKAGES_SITE=(cmark-gfm mandoc)

# To make the Debian packages (deploy/packages/build.sh), and to look for what is wrong with them and with the library in them
# (deploy/packages/abi.sh): with KNIT_TEST_LONG and --all.
PACKAGES_DEBIAN=(abigail-tools debhelper dpkg-dev lintian)

# `tests/run.sh --all` needs these too; Chromium for the page of the admin face, which is skipped without it.
PACKAGES_ALL=(chromium clang clang-tidy libclang-rt-14-dev cppcheck gcc-aarch64-linux-gnu mmdebstrap testssl.sh)

# Prints those of the named packages that are not installed.
packages_missing()
{
  local package
  for package in "$@"; do
    # The query also knows removed packages, so the status itself is compared.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

# packages_need MAY_INSTALL PACKAGE...: installs missing packages, or names them and fails. MAY_INSTALL is yes or no.
packages_need()
{
  local may_install=$1 missing as_root=()
  shift
  if ! command -v dpkg-query >/dev/null; then
    echo "This system has no dpkg: make sure that these are there under its own names: $*" >&2
    return 0
  fi
  mapfile -t missing < <(packages_missing "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$may_install" != yes ]; then
    echo "Missing packages (--no-install was given): ${missing[*]}" >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Missing packages, and neither root nor sudo to install them: ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing from Debian's packages: ${missing[*]}"
  # The lists are missing on a fresh image, or name versions that no longer exist.
  packages_apt install -y --no-install-recommends "${missing[@]}" 2>/dev/null && return 0
  echo "Refreshing the lists of packages first"
  packages_apt update && packages_apt install -y --no-install-recommends "${missing[@]}"
}

# Prints nothing unless it fails.
packages_apt()
{
  local log
  log=$(mktemp)
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  echo "apt-get $1 failed:" >&2
  tail -n 5 "$log" >&2
  rm -f "$log"
  return 1
}
