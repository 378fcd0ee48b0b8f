#!/usr/bin/env bash
# Tells in a few minutes whether an installation is right, on a workstation, on a cluster or in a container: runs a
# tiny study in one process and again on a machine, and compares every stored bit.
#
#   bash deploy/smoke.sh                                    two processes of this computer, or the running scheduler
#                                                           that DASK_SCHEDULER_ADDRESS names
#   bash deploy/smoke.sh -m deploy/slurm.yaml -o FOLDER     the workers of a machine file; FOLDER is made, must be seen
#                                                           from all of them, and is removed when all is well
#
# Needs colign on PATH, no network and no model: the text is a part of the demo's, the encoder is made on the spot.
#
# Exit codes: 0 the bits are the same; 1 a run failed, or the bits differ; 2 the call, the machine file or the
# environment needs changing (a message says how).
set -euo pipefail

say() { printf 'smoke: %s\n' "$*" >&2; }

needs() {
  say "$@"
  exit 2
}

machine="" folder=""
while getopts m:o: option; do
  case $option in
    m) machine=$OPTARG ;;
    o) folder=$OPTARG ;;
    *) needs "usage: smoke.sh [-m MACHINE_FILE] [-o FOLDER]" ;;
  esac
done
shift $((OPTIND - 1))
(($# == 0)) || needs "usage: smoke.sh [-m MACHINE_FILE] [-o FOLDER]; found $1"

command -v colign >/dev/null || needs "colign is not on PATH; install it, or activate its environment."
[[ -z $machine || -f $machine ]] || needs "$machine: no such machine file."
if [[ -n $folder ]]; then
  mkdir -p "$(dirname "$folder")"
  mkdir "$folder" 2>/dev/null || needs "$folder: is there already, or cannot be made; name a new folder with -o."
elif [[ -z $machine && -z ${DASK_SCHEDULER_ADDRESS:-} ]]; then
  folder=$(mktemp -d)
else
  needs "name a new folder that this computer and all workers see, with -o."
fi
folder=$(cd "$folder" && pwd -P)
for python in "$(dirname "$(command -v colign)")/python" python3 ""; do
  if "$python" -c 'import jobs.demo' 2>/dev/null; then break; fi
done
[[ -n $python ]] || needs "no python found that has the packages of $(command -v colign)."

"$python" - "$folder" <<'END'
import sys
from importlib import resources
from pathlib import Path

from engine.model.train import Recipe, pretrain
from engine.sentences import read_sentences

folder = Path(sys.argv[1])
texts = {}
for language in ("en", "de"):
    file = folder / f"{language}.txt"
    lines = resources.files("jobs.demo").joinpath(file.name).read_text(encoding="utf-8").splitlines()[:100]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    texts[language] = list(read_sentences(str(file), "regex"))
pretrain(texts, str(folder / "model"), Recipe(steps=4, layers=2, hidden=32, heads=2, vocabulary=900, batch=8))
END
cat >"$folder/smoke.yaml" <<'END'
corpus:
  words: regex
  files: {en: en.txt, de: de.txt}
checkpoints: {tiny: {model: ./model}}
selection: {min_count: 2, max_count: 20}
activations: {layers: [0, 2], shard_tokens: 512, chunk_tokens: 256}
concepts: {k: 10, restarts: 2}
END
echo "type: serial" >"$folder/one.yaml"
if [[ -z $machine && -z ${DASK_SCHEDULER_ADDRESS:-} ]]; then
  machine=$folder/two.yaml
  printf '%s\n' "type: local" "workers: 2" "memory: 2" >"$machine"
fi

run() { # $1: where to; further arguments: of colign run
  local where=$1 code=0
  shift
  colign run "$folder/smoke.yaml" --out "$folder/$where" "$@" >"$folder/$where.log" 2>&1 || code=$?
  ((code == 0)) && return
  cat "$folder/$where.log" >&2
  say "the run failed (see above); $folder is kept."
  exit "$((code == 2 ? 2 : 1))"
}

say "running a tiny study in one process"
run one --machine "$folder/one.yaml"
say "running it on ${machine:-$DASK_SCHEDULER_ADDRESS}"
run many ${machine:+--machine "$machine"}
for part in corpus.zarr links selections activations concepts dictionaries counts results.zarr; do
  diff -rq "$folder/one/$part" "$folder/many/$part" >&2 || {
    say "the bits of $part differ from those of one process: do not trust this machine's results; $folder is kept."
    exit 1
  }
done
files=$(find "$folder/many" -type f | wc -l)
rm -rf "$folder"
say "well: the same bits as in one process, in $SECONDS s ($files files)"
