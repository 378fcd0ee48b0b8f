"""Links: word alignment of a language pair, in both directions, made one set."""

import numpy as np
import xarray as xr
from thot import alignment as thot
from threadpoolctl import threadpool_limits

from engine.text import sentence_offsets, sentence_words
from schemas import study
from schemas.links import LINKS

_MODELS = {"fast_align": thot.FastAlignModel, "hmm": thot.HmmAlignmentModel}
_BATCH = 1000


def _train(aligner: str, source: list[list[str]], target: list[list[str]], iterations: int) -> thot.AlignmentModel:
    # expected counts are added up by OpenMP threads, and their number changes last digits and, rarely, a link
    with threadpool_limits(limits=1, user_api="openmp"):
        model = _MODELS[aligner]()
        for source_words, target_words in zip(source, target, strict=True):
            model.add_sentence_pair(source_words, target_words, 1)
        model.start_training()
        for _ in range(iterations):
            model.train()
        model.end_training()
    return model


def link(corpus: xr.Dataset, source: str, target: str, settings: study.Links) -> xr.Dataset:
    """Align the words of two languages of a corpus.

    Parameters
    ----------
    corpus
        CORPUS dataset.
    source, target
        Languages of the pair.
    settings
        Model of sil-thot, iterations and symmetrisation (Section 3.2).

    Returns
    -------
    LINKS dataset (link), ordered by source token, then target token. Sentences longer than the aligner takes
    (1024 words) have no links; their number is in the attribute sentences_too_long.
    """
    source_words, target_words = sentence_words(corpus, source), sentence_words(corpus, target)
    forward = _train(settings.aligner, source_words, target_words, settings.iterations)
    backward = _train(settings.aligner, target_words, source_words, settings.iterations)
    model = thot.SymmetrizedAlignmentModel(forward, backward)
    longest = min(forward.max_sentence_length, backward.max_sentence_length)
    too_long = sum(max(len(s), len(t)) > longest for s, t in zip(source_words, target_words, strict=True))
    model.heuristic = getattr(thot.SymmetrizationHeuristic, settings.symmetrise.upper().replace("-", "_"))
    source_start, target_start = sentence_offsets(corpus, source), sentence_offsets(corpus, target)
    found: list[np.ndarray] = []
    for first in range(0, len(source_words), _BATCH):
        batch = slice(first, first + _BATCH)
        for i, (_, matrix) in enumerate(model.get_best_alignments(source_words[batch], target_words[batch]), first):
            pairs = np.argwhere(matrix.to_numpy())
            found.append(pairs + np.array([source_start[i], target_start[i]]))
    links = np.concatenate(found).astype(np.int64)
    return LINKS.create(
        {"source_token": links[:, 0], "target_token": links[:, 1]},
        source=source,
        target=target,
        settings=settings.model_dump_json(),
        sentences_too_long=too_long,
    )
