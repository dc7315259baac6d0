#!/usr/bin/env bash
# One way to build, for both.
set -euo pipefail
exec "$SRC/reactor/fuzz/oss-fuzz/build.sh"
