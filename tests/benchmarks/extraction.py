"""Words a second of NeuroX, of a bare batched forward pass, and of Colign from text to Zarr store, in one run.

    PYTHONPATH=NEUROX python -m tests.benchmarks.extraction MODEL TEXT [--sentences 200] [--repeats 3]

The network is a BERT of base size (12 blocks of 768) with random weights and the tokenizer of MODEL, so that sub-words
are real; `--as-it-is` takes MODEL itself. TEXT is a file of words divided by spaces. How to install NeuroX stands in
`neurox_parity.py`; without it its rows are left out.

- neurox: its extractor, sentence by sentence, and its HDF5 writer, after loading the model, its prints thrown away.
- bare: hidden states of all layers in batches of sentences of like length under a budget of sub-words, tokenized
  before; nothing pooled or kept. `threads` gives each batch all threads, `side by side` each thread a batch; `same
  batches` are those of Colign, side by side, without padding.
- colign: corpus and selection of all words are laid out before; then tokenizing, forward pass, pooling, writing.

All are run in turn, `--repeats` times, every other time backwards: words a second are of the fastest turn, ratios are
medians over the turns. `cores busy` below the number of threads tells that something else was running.
"""

import argparse
import contextlib
import gc
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch

from engine import activations, paths, store
from engine.activations import Extraction
from engine.corpus import write_corpus
from engine.model import encode
from engine.model.encode import open_encoder
from engine.model.pieces import Wanted
from engine.model.shape import describe
from engine.selection import write_selections
from schemas.corpus import CORPUS
from schemas.selection import Selection
from schemas.study import Activations
from schemas.task import Key
from tests.benchmarks.inputs import Bare, Sentence, save_random_bert, some_lines, table

Run = tuple[Callable[[], object], Callable[[], object]]
"""What is made ready before the clock starts, and what is timed."""


def neurox_run(model: str, sentences: list[Sentence], folder: Path, threads: int) -> Run:
    """NeuroX from sentences to an HDF5 file.

    Raises
    ------
    ImportError
        It is not installed.
    """
    from neurox.data.extraction import transformers_extractor as extractor  # noqa: PLC0415  (optional)
    from neurox.data.writer import ActivationsWriter  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()):
        network, tokenizer = extractor.get_model_and_tokenizer(model)
    network.float().eval()

    def run() -> None:
        writer = ActivationsWriter.get_writer(str(folder / "neurox.hdf5"), filetype="hdf5")
        counts: dict[str, int] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            for i, sentence in enumerate(sentences):
                vectors, words = extractor.extract_sentence_representations(
                    " ".join(sentence), network, tokenizer, tokenization_counts=counts
                )
                writer.write_activations(i, words, vectors)
        writer.close()

    return (lambda: torch.set_num_threads(threads)), run


def bare_run(bare: Bare, threads: int, *, side_by_side: bool) -> Run:
    """The forward pass alone."""
    return (lambda: torch.set_num_threads(1 if side_by_side else threads)), (
        lambda: bare.run(threads, side_by_side=side_by_side)
    )


def colign_run(
    model: str,
    sentences: list[Sentence],
    folder: Path,
    threads: int,
    batch_subwords: int,
    compute: str,
    shard_tokens: int = 16384,
) -> Run:
    """Colign from a CORPUS dataset to an ACTIVATIONS dataset; all shards in one task, as one worker would get them."""
    chunk = {"shard_tokens": shard_tokens, "chunk_tokens": min(2048, shard_tokens)}
    settings = Activations.model_validate({"batch_subwords": batch_subwords, "compute": compute, **chunk})
    text, place = folder / "en.txt", str(folder / f"{compute}.zarr")
    text.write_text("".join(" ".join(sentence) + "\n" for sentence in sentences), encoding="utf-8")
    corpus, selection = str(folder / "corpus.zarr"), str(folder / "selection.zarr")
    write_corpus(corpus, {"en": str(text)}, "spaces")
    rule = Selection(min_count=1, max_count=10**6)
    tokens = write_selections({"en": selection}, store.load(corpus, CORPUS), rule)["en"]
    layers = activations.layers_of(model, "encoder", "all")
    wanted = Wanted("encoder", layers, compute=compute, batch_subwords=batch_subwords)
    shard, none = settings.shard_tokens, f"{place}.none"
    task = Extraction(
        corpus, selection, place, none, model, describe(model), "en", None, wanted, False, None, shard, threads, None
    )  # fmt: skip

    def prepare() -> None:
        open_encoder(model, compute, True, None, False)
        torch.set_num_threads(1)
        paths.remove(place)

    def run() -> None:
        activations.setup(task, settings, tokens, dtype="float16")
        # from the second shard on the error of bfloat16 is not measured again: leave that out of the rate
        with unmeasured():
            activations.extract(Key("activations", ("base", "encoder", "en"), 0, tokens), task, lambda *_: None)

    return prepare, run


@contextlib.contextmanager
def unmeasured() -> Iterator[None]:
    """Without the one measurement of the error of bfloat16 that the first shard of a store pays for."""
    kept = encode.cosine_with_float32
    encode.cosine_with_float32 = lambda *_: {"mean": [], "least": []}
    try:
        yield
    finally:
        encode.cosine_with_float32 = kept


def compare(
    model: str,
    sentences: list[Sentence],
    *,
    threads: int = 2,
    batch_subwords: int = 512,
    repeats: int = 3,
    shard_tokens: int = 16384,
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Words a second of each way with the cores that it kept busy, and ratios."""
    words = sum(map(len, sentences))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, Run] = {}
        with contextlib.suppress(ImportError):
            runs["neurox float32"] = neurox_run(model, sentences, folder, threads)
        for compute in ("float32", "bfloat16"):
            bare = Bare(model, sentences, batch_subwords, compute)
            runs[f"bare threads {compute}"] = bare_run(bare, threads, side_by_side=False)
            runs[f"bare side by side {compute}"] = bare_run(bare, threads, side_by_side=True)
            same = Bare(model, sentences, batch_subwords, compute, padded=False)
            runs[f"bare same batches {compute}"] = bare_run(same, threads, side_by_side=True)
            runs[f"colign {compute}"] = colign_run(
                model, sentences, folder, threads, batch_subwords, compute, shard_tokens
            )
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        busy: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(repeats):
            for name in list(runs)[:: 1 if turn % 2 == 0 else -1]:
                prepare, run = runs[name]
                prepare()
                gc.collect()
                started, used = time.perf_counter(), time.process_time()
                run()
                seconds[name].append(time.perf_counter() - started)
                busy[name].append((time.process_time() - used) / seconds[name][-1])
    ratios = {}
    for name in seconds:
        if name.startswith("colign"):
            compute = name.split()[-1]
            bare_ways = [f"bare {way} {compute}" for way in ("threads", "side by side", "same batches")]
            for peer in ("neurox float32", *bare_ways):
                if peer in seconds:
                    ratios[f"{name} / {peer}"] = median(
                        p / o for o, p in zip(seconds[name], seconds[peer], strict=True)
                    )
    speeds = {name: (words / min(taken), max(busy[name])) for name, taken in seconds.items()}
    return speeds, ratios


def main() -> None:
    """Compare, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-subwords", type=int, default=512)
    parser.add_argument("--shard-tokens", type=int, default=16384, help="small ones show how well shards overlap")
    parser.add_argument("--as-it-is", action="store_true", help="take MODEL itself, not a random BERT of base size")
    asked = parser.parse_args()
    sentences = some_lines(asked.text, asked.sentences)
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model if asked.as_it_is else save_random_bert(Path(folder), asked.model)
        settings = {"threads": asked.threads, "batch_subwords": asked.batch_subwords, "repeats": asked.repeats}
        speeds, ratios = compare(model, sentences, **settings, shard_tokens=asked.shard_tokens)
    words = sum(map(len, sentences))
    sys.stdout.write(f"{len(sentences)} sentences, {words} words, {asked.threads} threads\n\n")
    rows = [[name, round(speed), cores] for name, (speed, cores) in speeds.items()]
    sys.stdout.write(table(["way", "words/s", "cores busy"], rows) + "\n\n")
    sys.stdout.write(table(["ratio", "median"], [[name, ratio] for name, ratio in ratios.items()]) + "\n")


if __name__ == "__main__":
    main()
