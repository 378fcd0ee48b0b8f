"""What intervals and nulls along thresholds cost beside those of the study's own thresholds, for one layer of a pair.

python -m tests.benchmarks.drawing study.yaml CHECKPOINT STACK SOURCE TARGET LAYER [DRAWS]
"""

import sys
import time

from jobs import files
from jobs.sides import Place, compare_in_study
from jobs.uncertain import scored_alignment
from schemas.results import CALIGN_UNCERTAINTY_SWEEPS


def main() -> None:
    """Print seconds of the processor, the least of three, without and with sweeps."""
    path, checkpoint, stack, source, target, layer, *draws = sys.argv[1:]
    study, layout = files.load_study(path)
    sides = [Place(language, checkpoint, stack) for language in (source, target)]
    found = [compare_in_study(study, layout, *sides, study.metrics.counting)]
    at, count = int(layer), int(*draws or [20])
    for sweeps in ([], [*CALIGN_UNCERTAINTY_SWEEPS]):
        seconds = []
        for _ in range(3):
            started = time.process_time()
            scored_alignment(found, at, at, study.metrics, draws=count, seed=0, sweeps=sweeps)
            seconds.append(time.process_time() - started)
        sys.stdout.write(f"{', '.join(sweeps) or 'own thresholds'}: {min(seconds):.2f} s\n")


if __name__ == "__main__":
    main()
