"""Scores of answers to a downstream task, by the field's own tools: seqeval, sacrebleu, scikit-learn."""

import warnings
from collections.abc import Sequence
from typing import Any


def score(kind: str, answers: Sequence[Any], found: Sequence[Any]) -> dict[str, Any]:
    """Scores of what a checkpoint found against the answers.

    Parameters
    ----------
    kind
        `tagging`: tags (IOB2) of the words of each sentence. `classification`: labels. `translation`: sentences.

    Returns
    -------
    Of tags, micro-averaged over entities that agree in span and kind (seqeval, strict, IOB2; Table 2 of the paper):
    `precision`, `recall`, `f1`, in [0, 1]. Of labels: `accuracy`, and `f1`, the mean over labels, in [0, 1] (Table 5).
    Of translations: `bleu`, in [0, 100] (sacrebleu's; Table 1). Always `signature`: the tool with its version and
    settings.

    Examples
    --------
    >>> score("classification", ["1", "0", "1", "1"], ["1", "0", "0", "1"])["accuracy"]
    0.75
    """
    if kind == "tagging":
        return _tags(answers, found)
    if kind == "classification":
        from sklearn.metrics import accuracy_score, f1_score  # noqa: PLC0415  (seconds, for tasks alone)

        return {
            "accuracy": float(accuracy_score(answers, found)),
            "f1": float(f1_score(answers, found, average="macro", zero_division=0)),
            "signature": "accuracy; f1: mean over labels",
        }
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415  (as above)

    metric = BLEU()
    value = metric.corpus_score(list(found), [list(answers)])
    return {"bleu": float(value.score), "signature": str(metric.get_signature())}


def _tags(answers: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> dict[str, Any]:
    import seqeval.metrics  # noqa: PLC0415  (as above)
    from seqeval.scheme import IOB2  # noqa: PLC0415  (as above)

    options = {"mode": "strict", "scheme": IOB2, "average": "micro", "zero_division": 0}
    given = [list(tags) for tags in answers], [list(tags) for tags in found]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a division by zero is a score of zero, as asked for
        values = {
            name: float(getattr(seqeval.metrics, f"{name}_score")(*given, **options))
            for name in ("precision", "recall", "f1")
        }
    return {**values, "signature": "seqeval strict IOB2, micro"}
