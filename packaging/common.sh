# Shared by the scripts of this folder: where things are, and what they are called.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV 2>/dev/null | sed -n 's/^host: //p' || true)
target=${MICROCLIMATE_TARGET:-$host}
profile=${MICROCLIMATE_PROFILE:-release}
built=${CARGO_TARGET_DIR:-$root/target}
# What is packed, and the packages.
stage=$built/packaging/$target/stage
dist=${MICROCLIMATE_DIST:-$built/packaging/dist}
# The services, which are the program by another name.
services=(gateway feature-store trainer firmware-sim)
# Files are as old as the commit, so that the same commit packs to the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

fail() { printf '%s: %s\n' "packaging/$(basename "$0")" "$1" >&2; shift; [ $# -eq 0 ] || printf 'hint: %s\n' "$1" >&2; exit 1; }
needs() { command -v "$1" >/dev/null || fail "$1 is missing" "${2:-install it}"; }
say() { printf '== %s\n' "$*"; }

# The usage in the head of a script, for -h.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }

# Builds what is packed unless it has been: each script works from a clean checkout.
need_stage() { [ -x "$stage/bin/microclimate" ] || "$root/packaging/build"; }

# The newest glibc that the program asks for, as in 2.34.
glibc_of() {
  needs readelf "it is in Debian's binutils"
  readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -V | tail -n 1
}
