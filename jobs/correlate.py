"""CALIGN and COLAP beside the scores of downstream tasks (Section 4.1 of the paper)."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import xarray as xr

from engine.correlation import rank_correlation
from schemas.downstream import PRIMARY
from schemas.results import CORRELATIONS
from schemas.study import Study


def correlations(tree: xr.DataTree, scores: xr.Dataset, study: Study) -> xr.Dataset:
    """Rank correlation of each measure with each task, by stack and layer.

    A point is a checkpoint and a language of the task, with its mean score over the texts to score on that it has.
    Checkpoints whose weights are drawn anew are a control and no points: low in all, they make a correlation alone.
    Of a language its pair counts, as source; of a translation its own pair; of the language that all are paired with,
    none.

    Parameters
    ----------
    tree
        Results with /calign and /colap.
    scores
        SCORES dataset of the study.

    Returns
    -------
    CORRELATIONS dataset (task, measure, stack, layer).
    """
    calign, colap = tree["calign"].to_dataset(), tree["colap"].to_dataset()
    stacks, layers = calign["stack"].values.tolist(), calign.layer.values.tolist()
    tasks = scores.task.values.tolist()
    checkpoints = [c for c in scores.checkpoint.values.tolist() if not study.checkpoints[c].untrained]
    shape = len(tasks), 2, len(stacks), len(layers)
    values = {v.name: np.full(shape, np.nan) for v in CORRELATIONS.variables if not v.coordinate}
    for i, task in enumerate(tasks):
        primary = scores[PRIMARY[study.downstream[task].kind]].sel(task=task).mean("split")  # of test11 to test14
        pairs = {
            part: pair
            for part in scores.language.values.tolist()
            if (pair := _pair(study, study.downstream[task].languages(part))) is not None
        }
        given = primary.sel(checkpoint=checkpoints, language=list(pairs)).transpose("checkpoint", "language").values
        for (k, stack), (m, layer) in product(enumerate(stacks), enumerate(layers)):
            where = {"stack": stack, "layer": layer}
            aligned = calign.calign.sel(where)
            of = (
                [
                    [float(aligned.sel(checkpoint=c, source=s, target=t)) for s, t in pairs.values()]
                    for c in checkpoints
                ],
                [[_overlap(colap, c, pair, stack, layer) for pair in pairs.values()] for c in checkpoints],
            )
            for j, measured in enumerate(of):
                for name, value in rank_correlation(np.array(measured), given).items():
                    values[name][i, j, k, m] = value
    labels = {
        "task": np.asarray(tasks, object),
        "measure": np.asarray(["calign", "colap"], object),
        "stack": np.asarray(stacks, object),
        "layer": np.asarray(layers, np.int32),
    }
    return CORRELATIONS.create(labels | values)


def _overlap(colap: xr.Dataset, checkpoint: str, pair: tuple[str, str], stack: str, layer: int) -> float:
    """COLAP of the set of just these languages; NaN where it was not studied."""
    for name in colap.language_set.values.tolist():
        if {*name.split("+")} == {*pair} and stack in colap["stack"].values:
            return float(colap.colap.sel(checkpoint=checkpoint, language_set=name, stack=stack, layer=layer))
    return np.nan


def _pair(study: Study, languages: Sequence[str]) -> tuple[str, str] | None:
    """Source and target for a language, or for two of them; None where no single pair of the study has it."""
    if len(languages) == 2:
        found = [direction for direction in study.directions if direction == tuple(languages)]
    else:
        found = [direction for direction in study.directions if direction[0] == languages[0]]
    return found[0] if len(found) == 1 else None
