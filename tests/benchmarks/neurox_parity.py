"""Word vectors of Colign beside those of NeuroX 1.0.9 and of a plain loop over sentences, for all layers.

    PYTHONPATH=NEUROX python -m tests.benchmarks.neurox_parity MODEL TEXT... [--sentences 100] [--referee]

MODEL is a folder in transformers' format, or `random-xlmr`: XLM-R of base size with random weights and a unigram
tokenizer trained on the texts. TEXT are parallel files of words divided by spaces, from each of which `--sentences` are
read. `--referee` also computes all three in float64 and prints how far each float32 one is from the float64 loop.
Colign reads batches side by side on `--threads` threads, NeuroX and the loop one sentence at a time on one thread.

NeuroX pins versions of 2021, so it goes into a folder of its own, without what it asks for::

    pip install --target NEUROX --no-deps neurox==1.0.9 h5py svgwrite seaborn imbalanced-learn sklearn-compat

What NeuroX does, and under which rule the comparison is fair:

- It reads a sentence as one string and cuts it into words at single spaces. The words of a sentence are joined by one
  space for it; texts with other white space within a line would give it other words.
- It counts the sub-words of each word by tokenizing "a WORD" and taking off the special ones and the first, and cuts
  the sentence's sub-words by these counts. That is the word's own sub-words where `a` is one sub-word. Where it is not
  (a unigram vocabulary without "▁a"), NeuroX stops on its own assertion. It then gets a tokenizer that answers this
  one call with one sub-word in front (`counting_was_repaired`); all else is NeuroX's.
- A word that the tokenizer drops has a zero vector in NeuroX and none in Colign; both must drop the same words.
- A sentence longer than the model is cut off by NeuroX (its last words have no vectors) and left out by Colign, so such
  sentences are not compared (`too_long`).
- Its counts are cached in a mutable default argument, which two models in one process would share: each gets its own.
- It loads a checkpoint in the type in which it is stored (transformers 5 runs a float16 checkpoint in float16): its
  network is widened to float32, which changes no weight.
- It cannot run encoder-decoder models: it calls the network with `input_ids` alone, and MT5Model then raises
  ValueError. Its `extract_sentence_representations` takes any callable, so it gets the encoder alone, and for the
  decoder what the paper's fork gives: decoder states of MT5ForConditionalGeneration with the target's ids as `labels`,
  which transformers shifts right, so that the state at each place is the one that predicts the sub-word there. The
  encoder then reads the same sentence of the next text.

Differences grow with the values: mT5's states before its last norm reach hundreds, where float32 has steps of 3e-5, so
`relative` (length of the difference over the vector's) stands beside the absolute ones. They come from the order of
float32 sums alone, which padding or a product shared by threads would change: without either they are zero.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm

from engine.model.encode import Encoder
from engine.model.pieces import Wanted
from engine.model.shape import describe
from engine.sentences import read_sentences
from tests.benchmarks.inputs import Sentence, save_random_xlmr, some_lines, table
from tests.oracles.vectors import read_one_by_one

Vectors = list[NDArray[Any]]
"""(layer, word, hidden) of each sentence; NaN for words without a vector."""


def neurox() -> Any:
    """NeuroX's extractor; ends the program with the remedy where it is not installed."""
    try:
        from neurox.data.extraction import transformers_extractor  # noqa: PLC0415  (optional, installed by hand)
    except ImportError as error:
        sys.exit(f"NeuroX 1.0.9 cannot be imported ({error}); install it as the head of {__file__} says")
    return transformers_extractor


@contextlib.contextmanager
def norms_in_float64() -> Iterator[None]:
    """MT5's norm computes its variance in float32 whatever the network's type; not so here."""
    kept = MT5LayerNorm.forward

    def forward(self: Any, states: torch.Tensor) -> torch.Tensor:
        return self.weight * (states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    MT5LayerNorm.forward = forward
    try:
        yield
    finally:
        MT5LayerNorm.forward = kept


def colign_vectors(
    model: str,
    sentences: Sequence[Sentence],
    stack: str,
    sources: Sequence[Sentence] | None,
    dtype: torch.dtype,
    *,
    threads: int,
    batch_subwords: int,
) -> Vectors:
    """Vectors by Colign; float64 is no setting of it, so its network is widened here."""
    layers = tuple(range(describe(model).layers[stack] + 1))
    wanted = Wanted(stack, layers, "last", "predict", batch_subwords=batch_subwords)
    every = [np.arange(len(sentence)) for sentence in sentences]
    encoder = Encoder(model)
    encoder._network.to(dtype)
    kind = str(dtype).removeprefix("torch.")
    vectors = encoder.read(sentences, every, wanted, dtype=kind, sources=sources, threads=threads).vectors
    return np.split(vectors, np.cumsum([len(sentence) for sentence in sentences])[:-1], axis=1)


class _Repaired:
    """A tokenizer that puts one sub-word, not two, before a word that NeuroX counts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str, **settings: Any) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, **settings)
        if settings or not text.startswith("a "):
            return ids
        return [self._tokenizer.unk_token_id, *self._tokenizer.encode(text[2:])]


def neurox_vectors(
    model: str, sentences: Sequence[Sentence], stack: str, sources: Sequence[Sentence] | None, dtype: torch.dtype
) -> tuple[Vectors, bool]:
    """Vectors by NeuroX, and whether its counting had to be repaired."""
    extractor = neurox()
    with contextlib.redirect_stdout(io.StringIO()):
        network, tokenizer = extractor.get_model_and_tokenizer(model)
    source_ids: list[int] = []
    run: Callable[[torch.Tensor], Any] = network.to(dtype).eval()
    if stack == "decoder":
        generator = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype).eval()

        def run(ids: torch.Tensor) -> Any:
            return [
                generator(
                    input_ids=torch.tensor([source_ids]), labels=ids, output_hidden_states=True
                ).decoder_hidden_states
            ]
    elif network.config.is_encoder_decoder:

        def run(ids: torch.Tensor) -> Any:
            return [network.encoder(input_ids=ids, output_hidden_states=True).hidden_states]

    repaired = len(tokenizer("a", add_special_tokens=False)["input_ids"]) != 1
    if repaired:
        tokenizer = _Repaired(tokenizer)
    counts: dict[str, int] = {}
    found = []
    for i, sentence in enumerate(sentences):
        if sources is not None:
            source_ids[:] = tokenizer.encode(" ".join(sources[i]), truncation=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            vectors, words = extractor.extract_sentence_representations(
                " ".join(sentence), run, tokenizer, tokenization_counts=counts
            )
        assert len(words) == len(sentence)
        vectors = vectors.astype(str(dtype).removeprefix("torch."))
        vectors[:, [word == "" for word in words]] = np.nan
        found.append(vectors)
    return found, repaired


def largest(ours: Vectors, theirs: Vectors) -> list[float]:
    """Largest absolute difference of each layer; both must lack the same words."""
    found = np.zeros(len(ours[0]))
    for a, b in zip(ours, theirs, strict=True):
        assert (np.isnan(a[0, :, 0]) == np.isnan(b[0, :, 0])).all(), "a word has a vector in one of the two only"
        found = np.fmax(found, np.nanmax(np.abs(a.astype(np.float64) - b), axis=(1, 2), initial=0))
    return found.tolist()


def relative(ours: Vectors, theirs: Vectors) -> list[float]:
    """Largest difference of a vector as a share of its length, for each layer."""
    found = np.zeros(len(ours[0]))
    for a, b in zip(ours, theirs, strict=True):
        share = np.linalg.norm(a - b, axis=2) / np.linalg.norm(b, axis=2)
        found = np.fmax(found, np.nanmax(share, axis=1, initial=0))
    return found.tolist()


def compare(
    model: str,
    texts: Sequence[Sequence[Sentence]],
    *,
    threads: int = 2,
    batch_subwords: int = 512,
    referee: bool = False,
) -> dict[str, Any]:
    """Differences for every stack and layer.

    Parameters
    ----------
    texts
        Parallel sentences of each language.
    referee
        Whether to compute all in float64 too.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    shape = describe(model)
    pairs = [(s, t) for i, text in enumerate(texts) for s, t in zip(text, texts[(i + 1) % len(texts)], strict=True)]
    fit = [
        all(len(tokenizer(s, is_split_into_words=True)["input_ids"]) <= (shape.max_subwords or 512) for s in pair)
        for pair in pairs
    ]
    sentences, others = zip(*[pair for pair, fits in zip(pairs, fit, strict=True) if fits], strict=True)
    result: dict[str, Any] = {
        "sentences": len(sentences),
        "too_long": len(fit) - sum(fit),
        "words": sum(map(len, sentences)),
        "stacks": {},
    }
    for stack in shape.layers:
        sources = others if stack == "decoder" else None

        def three(
            dtype: torch.dtype, stack: str = stack, sources: Sequence[Sentence] | None = sources
        ) -> tuple[Vectors, Vectors, Vectors]:
            ours = colign_vectors(
                model, sentences, stack, sources, dtype, threads=threads, batch_subwords=batch_subwords
            )
            torch.set_num_threads(1)  # sums of a product that threads share are added up in another order
            theirs, result["counting_was_repaired"] = neurox_vectors(model, sentences, stack, sources, dtype)
            return ours, theirs, read_one_by_one(model, sentences, stack=stack, sources=sources, dtype=dtype)

        ours, theirs, loop = three(torch.float32)
        found: dict[str, list[float]] = {
            "largest value": np.max([np.nanmax(np.abs(v), axis=(1, 2), initial=0) for v in ours], axis=0).tolist(),
            "colign - neurox": largest(ours, theirs),
            "relative": relative(ours, theirs),
            "colign - loop": largest(ours, loop),
            "neurox - loop": largest(theirs, loop),
        }
        if referee:
            with norms_in_float64():
                exact = three(torch.float64)
            found["colign - neurox, float64"] = largest(exact[0], exact[1])
            found["colign - loop, float64"] = largest(exact[0], exact[2])
            found["colign's error"] = largest(ours, exact[2])
            found["neurox's error"] = largest(theirs, exact[2])
        result["stacks"][stack] = found
        result["words_without_vector"] = int(sum(np.isnan(v[0, :, 0]).sum() for v in ours))
    return result


def main() -> None:
    """Compare, and print a table for each stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", nargs="+")
    parser.add_argument("--sentences", type=int, default=100, help="from each text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-subwords", type=int, default=512, help="of a batch of Colign")
    parser.add_argument("--blocks", type=int, default=12, help="of random-xlmr")
    parser.add_argument("--hidden", type=int, default=768, help="of random-xlmr")
    parser.add_argument("--referee", action="store_true", help="also compute in float64")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    asked = parser.parse_args()
    neurox()
    texts = [some_lines(path, asked.sentences) for path in asked.text]
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model
        if model == "random-xlmr":
            every = [sentence for path in asked.text for sentence in read_sentences(path, "spaces")]
            model = save_random_xlmr(Path(folder), every, blocks=asked.blocks, hidden=asked.hidden)
        settings = {"threads": asked.threads, "batch_subwords": asked.batch_subwords, "referee": asked.referee}
        found = compare(model, texts, **settings)
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    stacks = found.pop("stacks")
    sys.stdout.write(json.dumps(found) + "\n")
    for stack, columns in stacks.items():
        rows = [[stack, layer, *values] for layer, values in enumerate(zip(*columns.values(), strict=True))]
        sys.stdout.write("\n" + table(["stack", "layer", *columns], rows) + "\n")


if __name__ == "__main__":
    main()
