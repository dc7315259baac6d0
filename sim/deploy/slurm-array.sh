#!/bin/sh
#SBATCH --job-name=sim-sweep
#SBATCH --array=0-3
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=02:00:00
#SBATCH --output=sim-sweep-%A-%a.log
#SBATCH --signal=B:TERM@60
# A sweep over many machines: one task of the array for each shard. `--shard auto` reads what Slurm sets, so only the
# line with --array says how many there are. A task that is queued again makes the same runs and writes the same file.
#
#   sbatch --export=ALL,RUNS=1000000,RESULTS=$HOME/results slurm-array.sh
#   sim merge results/shard-*.jsonl --out results/merged.jsonl
#
# A minute before its time is over, Slurm sends SIGTERM: the sweep ends with whole lines, and a last one that says so.
set -eu

: "${RUNS:=100000}"
: "${SEED:=0x0000000000000000}"
: "${RESULTS:=results}"

mkdir -p "$RESULTS"
exec sim run --seed "$SEED" --runs "$RUNS" --stratified --jobs "${SLURM_CPUS_PER_TASK:-1}" --shard auto \
  --records "$RESULTS/shard-$SLURM_ARRAY_TASK_ID.jsonl" --out "$RESULTS/failures"
