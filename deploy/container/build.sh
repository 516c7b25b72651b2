#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image of the Containerfile without network and without an image to build on: out of a build of this machine, and of
# the libraries that Debian has installed on it. Nothing runs in the image meanwhile.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage()
{
  cat <<'TEXT'
usage: deploy/container/build.sh [--build DIR] NAME

Builds the image NAME, such as localhost/knitting, for podman and its kind. Needs Debian's buildah.

  --build DIR  folder of a build with --prefix /usr --libdir lib; one that is not there is made (build-image)
  --help       this text
TEXT
}

build=$here/../../build-image name=
while [ $# -gt 0 ]; do
  case $1 in
    --build) build=$2; shift ;;
    --help) usage; exit 0 ;;
    -*) echo "deploy/container/build.sh: $1 is not known" >&2; usage >&2; exit 2 ;;
    *) [ -z "$name" ] || { usage >&2; exit 2; }; name=$1 ;;
  esac
  shift
done
[ -n "$name" ] || { usage >&2; exit 2; }
command -v buildah >/dev/null || { echo 'deploy/container/build.sh: buildah is not installed' >&2; exit 1; }

scratch=$(mktemp -d)
container=
end()
{
  [ -z "$container" ] || buildah rm "$container" >/dev/null || true
  rm -rf "$scratch"
}
trap end EXIT

"$here/root.sh" "$build" "$scratch/root"
container=$(buildah from --format docker scratch)
buildah add --quiet --chown 0:0 "$container" "$scratch/root" / >/dev/null
mkdir -p "$scratch/run/knitting"
buildah add --quiet --chown 10001:10001 "$container" "$scratch/run" /run >/dev/null
# From here on as in the Containerfile, which says why.
buildah config --user 10001:10001 --volume /run/knitting --workingdir / --stop-signal SIGTERM \
  --entrypoint '["/usr/bin/knittingd"]' --cmd '' \
  --healthcheck 'CMD /usr/bin/knit health' --healthcheck-interval 10s --healthcheck-timeout 5s \
  --healthcheck-start-period 30s --healthcheck-retries 3 \
  --label org.opencontainers.image.title=knitting --label org.opencontainers.image.licenses=Apache-2.0 "$container"
# The format of OCI has no place for a health command.
buildah commit --quiet --format docker "$container" "$name" >/dev/null
echo "$name"
