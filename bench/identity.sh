#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs one simulated script many times, each time as another process: half of them
# with the JIT compiler and half without, with environments and folders of other
# sizes and names, and compares traces and outputs byte by byte. The script is
# spec/support/identity.lua; addresses differ by the system's ASLR, hashes of
# strings by LuaJIT's seed.
# usage: bench/identity.sh [RUNS]        (100; NEAP: the program, default build/neap)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

runs=${1:-100}
if ! [[ $runs =~ ^[0-9]+$ ]] || [ "$runs" -lt 2 ]; then
  echo "usage: bench/identity.sh [RUNS]   (a number, at least 2)" >&2
  exit 2
fi
neap=$(realpath "${NEAP:-build/neap}")
if ! [ -x "$neap" ]; then
  echo "identity: there is no $neap; build it first (./dev build)" >&2
  exit 2
fi
keep=(PATH="$PATH")
if [ -n "${NEAP_LUA_PATH:-}" ]; then keep+=(NEAP_LUA_PATH="$(realpath "$NEAP_LUA_PATH")"); fi
if [ "$(cat /proc/sys/kernel/randomize_va_space 2>/dev/null)" = 0 ]; then
  echo "identity: note: ASLR is off on this machine" >&2
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# One run: its trace and what it printed, one after the other, in $folder/$1.
run_once() {
  local i=$1 mode=jit place status=0
  if [ $((i % 2)) = 0 ]; then mode=nojit; fi
  place=$folder/place-$(printf '%*s' $((i % 40)) '' | tr ' ' p)$i
  mkdir "$place"
  (
    cd "$place"
    env -i "${keep[@]}" HOSTNAME="host-$i" TZ="Etc/GMT+$((i % 12))" HOME="$place" \
      PAD="$(printf '%*s' $((i * 97 % 4000)) '')" \
      "$neap" sim --world "$root/bench/worlds/identity.lua" --seed 7 --trace trace \
      "$root/spec/support/identity.lua" "$mode" >out 2>err
  ) || status=$?
  if [ "$status" != 0 ]; then
    echo "identity: run $i ($mode) ended with exit code $status:" >&2
    cat "$place/err" >&2
    exit 1
  fi
  cat "$place/trace" "$place/out" >"$folder/$i"
  if [ "$i" = 1 ]; then events=$(wc -l <"$place/trace"); fi
  rm -r "$place"
}

same=0 events=0 first=
for i in $(seq 1 "$runs"); do
  run_once "$i"
  sum=$(sha256sum <"$folder/$i")
  if [ -z "$first" ]; then first=$sum; fi
  if [ "$sum" = "$first" ]; then
    same=$((same + 1))
  elif [ "$same" = $((i - 1)) ]; then
    echo "run $i differs from run 1, first here:"
    diff "$folder/1" "$folder/$i" | head -n 4 || true
  fi
  if [ "$i" != 1 ]; then rm "$folder/$i"; fi
done
echo "$same of $runs identical ($events events; $((runs - runs / 2)) with the compiler, $((runs / 2)) without)"
[ "$same" = "$runs" ]
