#!/usr/bin/env bash
# Builds every target into $OUT, with its inputs and its dictionary: the layout that OSS-Fuzz and ClusterFuzzLite expect.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The fuzz package is a member of the workspace, so its programs are in the workspace's target folder.
target=${CARGO_TARGET_DIR:-$PWD/target}
host=$(rustc -vV | sed -n 's/^host: //p')
# The images have nightly as their only toolchain; elsewhere it has a name.
nightly=()
rustc -vV | grep -q '^release: .*nightly' || nightly=(+nightly)
cargo "${nightly[@]}" fuzz build -O --debug-assertions --target "$host"

for source in fuzz/fuzz_targets/*.rs; do
  name=$(basename "$source" .rs)
  cp "$target/$host/release/$name" "$OUT/$name"
  rm -f "$OUT/${name}_seed_corpus.zip"
  inputs=()
  for kind in seeds regressions; do
    [ ! -d "fuzz/$kind/$name" ] || inputs+=("fuzz/$kind/$name")
  done
  zip -q -r "$OUT/${name}_seed_corpus.zip" "${inputs[@]}"
  printf '[libfuzzer]\nmax_len = 4096\ntimeout = 60\n' >"$OUT/$name.options"
  if [ -f "fuzz/dict/$name.dict" ]; then
    cp "fuzz/dict/$name.dict" "$OUT/$name.dict"
    printf 'dict = %s.dict\n' "$name" >>"$OUT/$name.options"
  fi
done
