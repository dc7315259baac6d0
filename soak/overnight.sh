#!/usr/bin/env bash
# Checks the machine, builds, and hands over to `soak night`, which runs everything.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: soak/overnight.sh --out DIR [--hours H | --minutes M | --smoke] [OPTIONS]

Runs the workloads on real loopback sockets in turn, for hours; beside them, at the lowest priority, it sweeps fresh seeds
in the simulator and runs the fuzz targets. Everything is kept under DIR. A part that crashes, hangs or cannot start does
not end the night; a part that this machine cannot run is left out, with the reason. The last line says
`N passed, N failed, N left out; DIR`.

  --out DIR        where everything goes: a new folder
  --hours H        how long, in whole hours [default: 8]
  --minutes M      how long, in minutes
  --smoke          all of it in about 60 seconds after the build: what CI runs
  --seed S         what every part's seed is made from: decimal, or 0x and hex [default: a new one, which is printed]
  --address A      refused, unless A is 127.0.0.1: the services listen there and nowhere else
  --resume         goes on with the night in DIR, with the programs it began with: parts with a result are not run again
  --disk-mib N     how much room DIR's disk must have [default: 4096, with --smoke 1024]
  --no-sweep       no simulator beside the soak
  --no-fuzz        no fuzz targets beside the soak
  --check          checks everything that can be checked before the build, and stops
  -h, --help       this text

Exit codes: 0 all parts passed, 1 a part failed, 2 usage, 7 the machine refuses, 130 interrupted.

For a whole night, from the repository's root:
  setsid nohup soak/overnight.sh --hours 8 --out /var/tmp/night >/var/tmp/night.log 2>&1 &
  tmux new -d -s night 'soak/overnight.sh --hours 8 --out /var/tmp/night; exec sh'
  soak/deploy/ has a systemd unit and a nightly CI job.

Ctrl-C, or kill -INT "$(cat DIR/pid)", stops every part and still summarises; a second one leaves at once.
Afterwards: DIR/summary.json and DIR/parts.jsonl say how each part ended, DIR/logs/ what it said, `soak report DIR` draws
it, and soak/README.md says how a failure is brought back to the simulator.
TEXT
}

refuse() {
  printf 'overnight: %s\n' "$2" >&2
  exit "$1"
}

out='' hours='' minutes='' smoke=0 seed='' address=127.0.0.1 resume=0 disk_mib='' check=0
leave_out=()
while [ $# -gt 0 ]; do
  case $1 in
    --out | --hours | --minutes | --seed | --address | --disk-mib)
      if [ $# -lt 2 ] || [ -z "$2" ]; then refuse 2 "$1 needs a value; see --help"; fi
      case $1 in
        --out) out=$2 ;;
        --seed) seed=$2 ;;
        --address) address=$2 ;;
        *)
          [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || refuse 2 "$1 needs a whole number of at least 1, not '$2'"
          case $1 in
            --hours) hours=$2 ;;
            --minutes) minutes=$2 ;;
            --disk-mib) disk_mib=$2 ;;
          esac
          ;;
      esac
      shift
      ;;
    --smoke) smoke=1 ;;
    --resume) resume=1 ;;
    --no-sweep) leave_out+=(--no-sweep 'not wanted: --no-sweep') ;;
    --no-fuzz) leave_out+=(--no-fuzz 'not wanted: --no-fuzz') ;;
    --check) check=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) refuse 2 "there is no option '$1'; see --help" ;;
  esac
  shift
done

# What is asked for --------------------------------------------------------------------------------------------------

[ -n "$out" ] || refuse 2 '--out DIR is missing: the folder that everything is kept in'
[[ $out == -* ]] && refuse 2 "'$out' is no folder but an option; --out needs a value"
lengths=$((${#hours} > 0 ? 1 : 0))
[ -z "$minutes" ] || lengths=$((lengths + 1))
[ "$smoke" -eq 0 ] || lengths=$((lengths + 1))
[ "$lengths" -le 1 ] || refuse 2 'one of --hours, --minutes and --smoke, please'
[ "$address" = 127.0.0.1 ] ||
  refuse 2 "the services listen on 127.0.0.1 only, not on '$address': a soak makes trouble, and makes it at home"
[ -z "$seed" ] || [[ $seed =~ ^(0x[0-9a-fA-F]{1,16}|[0-9]{1,19})$ ]] ||
  refuse 2 "'$seed' is no seed: decimal, or 0x and up to 16 hex digits"
if [ "$resume" -eq 1 ]; then
  [ "$lengths" -eq 0 ] && [ -z "$seed" ] || refuse 2 'a night that is resumed keeps its length and its seed'
  [ -f "$out/night.json" ] || refuse 2 "$out holds no night to go on with: it has no night.json"
  [ -x "$out/programs/soak" ] || refuse 2 "$out has no programs/soak; a night is resumed with the programs it began with"
elif [ -e "$out" ]; then
  refuse 2 "$out exists already; nothing was touched. Choose another folder, or --resume to go on with it"
fi

# What the machine allows --------------------------------------------------------------------------------------------

for tool in cargo rustc df awk sed; do
  command -v "$tool" >/dev/null || refuse 7 "$tool is missing on this machine"
done
made=0
if [ "$resume" -eq 0 ]; then
  mkdir -p -- "$out" || refuse 7 "$out cannot be made"
  made=1
fi
# Until the night begins there is nothing in the folder worth keeping.
clean_up() {
  if [ "$made" -eq 1 ]; then
    rm -rf -- "$out/programs"
    rmdir -- "$out" 2>/dev/null || true
  fi
}
trap clean_up EXIT
out=$(cd -- "$out" && pwd) || refuse 7 "$out cannot be entered"
: >"$out/.writable" || refuse 7 "$out cannot be written to"
rm -f -- "$out/.writable"
if [ -z "$disk_mib" ]; then
  disk_mib=4096
  [ "$smoke" -eq 0 ] || disk_mib=1024
fi
free_mib=$(df -Pm -- "$out" | awk 'NR == 2 { print $4 }')
[ "$free_mib" -ge "$disk_mib" ] ||
  refuse 7 "the disk of $out has $free_mib MiB left, and $disk_mib are wanted; make room, or say --disk-mib"
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
files=$(ulimit -n)
[ "$files" = unlimited ] || [ "$files" -ge 1024 ] ||
  refuse 7 "only $files files may be open here, and a night needs 1024; raise the hard limit (ulimit -Hn)"
printf 'open files: %s; disk: %s MiB left\n' "$files" "$free_mib"

if [ "$resume" -eq 1 ]; then
  [ "$check" -eq 0 ] || exit 0
  exec "$out/programs/soak" night --resume "$out"
fi

# What is built ------------------------------------------------------------------------------------------------------

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || refuse 7 'the repository is not where this script is'
has_fuzz=1
without_fuzz() {
  has_fuzz=0
  leave_out+=(--no-fuzz "$1")
  printf 'no fuzz targets: %s\n' "$1"
}
if [[ " ${leave_out[*]-} " == *' --no-fuzz '* ]]; then
  has_fuzz=0
elif ! command -v cargo-fuzz >/dev/null; then
  without_fuzz 'cargo-fuzz is not installed (cargo install --locked cargo-fuzz)'
elif ! cargo +nightly --version >/dev/null 2>&1; then
  without_fuzz 'there is no nightly toolchain (rustup toolchain install nightly --profile minimal)'
fi
[ "$check" -eq 0 ] || exit 0

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# The library libkqueue is looked for when it is used, so it is not needed here.
features=()
[ "$(uname)" != Linux ] || features=(--features soak/libkqueue)
cargo build --release --locked -p sim -p soak ${features[@]+"${features[@]}"} || refuse 7 'the build failed'
mkdir -- "$out/programs"
cp -- "$target/release/soak" "$target/release/sim" "$out/programs/"
if [ "$has_fuzz" -eq 1 ]; then
  # As .ci/fuzz-smoke builds them: a cargo-fuzz that was built for musl would take musl for the target, too.
  host=$(rustc -vV | sed -n 's/^host: //p')
  if cargo +nightly fuzz build --target "$host" --sanitizer none --no-trace-compares; then
    mkdir -- "$out/programs/fuzz"
    for name in $(cargo +nightly fuzz list); do
      cp -- "$target/$host/release/$name" "$out/programs/fuzz/"
    done
  else
    without_fuzz 'they do not build; the lines above say why'
  fi
fi

# The night ----------------------------------------------------------------------------------------------------------

length=(--hours "${hours:-8}")
[ -z "$minutes" ] || length=(--minutes "$minutes")
[ "$smoke" -eq 0 ] || length=(--seconds 45)
[ -z "$seed" ] || length+=(--seed "$seed")
exec "$out/programs/soak" night --out "$out" --programs "$out/programs" --fuzz-inputs "$PWD/fuzz" \
  "${length[@]}" ${leave_out[@]+"${leave_out[@]}"}
