#!/usr/bin/env bash
# Runs `./chalk test` as a newcomer would: in a bare tree of a Debian or Ubuntu release, where
# ./chalk has to install all it needs, on the files committed here. Then compiles everything with
# that system's GCC and Clang, where a warning is an error. Needs root.
#
#   tests/systems/debian.sh trixie|bookworm|noble [MIRROR]
#
# MIRROR is by default the one that this machine's apt sources name, or else debootstrap's own. The
# bare tree is kept in /var/cache/chalk for a week, since making it takes half a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=${1:?which release: trixie, bookworm or noble} mirror=${2:-}

fail() {
  echo "tests/systems/debian.sh: $suite was not tried: $*" >&2
  exit 1
}

case "$suite" in
  bookworm | trixie) distribution=Debian script=sid components=main keys=debian ;;
  noble) distribution=Ubuntu script=gutsy components=main,universe keys=ubuntu ;;
  *) fail "not a release this script knows" ;;
esac
[ "$(id -u)" = 0 ] || fail "it needs root"
command -v debootstrap >/dev/null || fail "it needs debootstrap"
keyring=/usr/share/keyrings/$keys-archive-keyring.gpg
[ -f "$keyring" ] || fail "it needs $distribution's keys, $keyring"
unshare --mount --pid --fork true || fail "this machine lets root mount nothing"

# ---- the bare tree ----

kept=/var/cache/chalk/$suite.tar
mkdir -p "$(dirname "$kept")"
work=$(mktemp -d /var/tmp/chalk-system.XXXXXX)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
mkdir "$tree"
if [ -n "$(find "$kept" -mtime -7 2>/dev/null)" ]; then
  tar -C "$tree" -xf "$kept"
else
  if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
    apt-get update -qq || true  # its lists say which mirror has which distribution
    # shellcheck disable=SC2016  # apt replaces these
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
      awk -v label="$distribution" '$1 == label && !found++ { print $2 }')
  fi
  debootstrap --variant=minbase --components="$components" --keyring="$keyring" \
    --force-check-gpg "$suite" "$tree" "$mirror" "$script" >"$work/log" 2>&1 ||
    { tail "$work/log" >&2; fail "debootstrap failed${mirror:+ with $mirror}"; }
  tar -C "$tree" -cf "$work/tar" .
  mv "$work/tar" "$kept"
fi
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"  # as they are now
mkdir "$tree/chalk"
git archive HEAD | tar -C "$tree/chalk" -x

# ---- what runs in it ----

# The mounts and processes end with the command, however it ends.
inside() {
  printf '\n== %s: %s\n' "$suite" "$*" >&2
  # shellcheck disable=SC2016  # for the inner shell
  unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot "$@"' bash \
    "$tree" env -i --chdir=/chalk HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin CHALK_WERROR=ON \
    ${http_proxy:+http_proxy="$http_proxy"} "$@"
}
# Of the CUDA kernels' tests those that are quick.
quick=(-E '^on_cpu_(reverse|shuffle|network|devices|property)')
inside env CHALK_KERNEL_TESTS=PLAIN ./chalk test "${quick[@]}"
inside cmake --build --preset release --target benchmarks
inside env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends clang libomp-dev >/dev/null
inside cmake --preset clang
inside cmake --build --preset clang --target all benchmarks
