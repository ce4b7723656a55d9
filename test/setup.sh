# Shared by examples/run, test/run, test/bench/run and .ci/run, which source it: installs packages and builds. Run from the top of the tree.

# What building the library and the examples takes, what the tests take besides, and what .ci/run and test/bench/run take besides.
build_packages="g++ meson ninja-build pkg-config python3 ca-certificates
  libboost1.81-dev libboost-url1.81-dev libboost-json1.81-dev libssl-dev libc-ares-dev libspdlog-dev libfmt-dev libcli11-dev libhiredis-dev"
test_packages="$build_packages doctest-dev catch2 libgtest-dev openssl nginx iproute2 netcat-openbsd socat redis-server python3-twisted python3-service-identity
  python3-httpbin"
ci_packages="$test_packages ccache debootstrap git clang-19 clang-format-19 libclang-rt-19-dev llvm-19"
bench_packages="$build_packages libcapnp-dev libuv1-dev libcurl4-openssl-dev python3-twisted nginx"

say() { printf '%s: %s\n' "$0" "$*" >&2; }

# need PACKAGE...: installs those that are missing.
need() {
  local missing="" sudo="" policy="" tool
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    for tool in g++ meson ninja pkg-config python3; do command -v $tool >/dev/null || missing+=" $tool"; done
    [ -z "$missing" ] && return 0
    say "not found:$missing. This is not Debian: install what these packages of Debian 12 hold:" $*
    return 1
  fi
  missing=$( { dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null | sed -n 's/^ii *//p'; printf '%s\n' "$@" "$@"; } |
    sort | uniq -c | awk '$1 == 2 {print $2}')
  [ -n "$missing" ] || return 0
  say "installing" $missing
  if [ "$(id -u)" != 0 ]; then
    { command -v sudo && sudo true; } >/dev/null || { say "run this as root, or install them with apt-get, then run it again"; return 1; }
    sudo=sudo
  fi
  # The tests start servers of their own: a service that a package brings stays off.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=yes
    printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
    $sudo chmod +x /usr/sbin/policy-rc.d
  fi
  local log status=0
  log=$(mktemp)
  { $sudo apt-get update -q || :
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing
  } </dev/null >"$log" 2>&1 || status=$?
  [ -z "$policy" ] || $sudo rm -f /usr/sbin/policy-rc.d
  if [ "$status" != 0 ]; then
    tail -n 20 "$log" >&2
    say "apt-get could not install them (its last words are above); Torsion is built on Debian 12"
    return 1
  fi
  rm -f "$log"
}

# build DIRECTORY [MESON_OPTION...] -- [TARGET...]: sets the directory up, also one that was set up without these options, and builds. Quiet
# unless something fails.
build() {
  local dir=$1 options=() new=() option log
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  for option in "${options[@]}"; do grep -qxF -e "$option" "$dir/options" 2>/dev/null || new+=("$option"); done
  log=$(mktemp)
  if [ ! -e "$dir/build.ninja" ]; then
    say "setting up $dir"
    meson setup "$dir" "${options[@]}" </dev/null >"$log" 2>&1 ||
      { cat "$log" >&2; rm -rf "$dir" "$log"; say "meson could not set $dir up (its words are above)"; return 1; }
    new=("${options[@]}")
  elif [ ${#new[@]} -gt 0 ]; then
    say "setting up $dir with ${new[*]}"
    # What it did not find then may be there by now.
    meson configure "$dir" --clearcache "${new[@]}" </dev/null >"$log" 2>&1 ||
      { cat "$log" >&2; rm -f "$log"; say "meson could not set $dir up (its words are above); remove it and run this again"; return 1; }
  fi
  [ ${#new[@]} = 0 ] || printf '%s\n' "${new[@]}" >>"$dir/options"
  ninja -C "$dir" -n "$@" 2>&1 | grep -q 'no work to do' && { rm -f "$log"; return 0; }
  say "building in $dir"
  if [ -t 2 ]; then  # ninja's own line of progress
    rm -f "$log"
    ninja -C "$dir" "$@" </dev/null >&2
    return
  fi
  ninja -C "$dir" "$@" </dev/null >"$log" 2>&1 || { grep -v '^\[' "$log" >&2; rm -f "$log"; say "ninja could not build in $dir"; return 1; }
  grep -A8 'warning:' "$log" >&2 || :
  rm -f "$log"
}

# originals: Twisted's documented programs, of Debian's package twisted-doc, unpacked into build/twisted-doc for test/interop.
# (Unpacked and not installed, as images of containers leave documentation out.)
originals() {
  local dir=build/twisted-doc log
  [ ! -e $dir/usr ] || return 0
  say "fetching twisted-doc"
  log=$(mktemp)
  mkdir -p $dir
  ( cd $dir && { apt-get download -q twisted-doc || { apt-get update -q; apt-get download -q twisted-doc; }; } && dpkg -x twisted-doc_*.deb . ) \
    </dev/null >"$log" 2>&1 || { tail -n 20 "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
}
