"""Clustering and extraction on a GPU: beside the ceilings that are measured on it, plain torch, and the CPU.

    python -m tests.benchmarks.gpu kmeans [--tokens 1000000] [--hidden 768] [--k 600]
    python -m tests.benchmarks.gpu extraction MODEL TEXT [--sentences 20000]

`kmeans` makes float16 vectors in overlapping groups and gives milliseconds of each part of a pass over all of them in
one block after another, of whole iterations of the estimator, and of an iteration of Lloyd's algorithm in plain torch
(float32 products, `argmin`, `index_add_`). The floor is the time of the products alone, in bfloat16 and in float32.

`extraction` gives words a second of a BERT of base size with random weights and the tokenizer of MODEL: the forward
pass alone in the same batches, and Colign from text to a Zarr store, in float32 and bfloat16; and how far vectors lie
from those of the CPU.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine import backend, device, host
from engine.estimator import KMeans
from engine.kernels.lloyd import BLOCK_ROWS, Rows
from engine.kernels.shards import blocks
from engine.model.encode import open_encoder
from engine.model.pieces import Wanted
from engine.sentences import read_sentences
from tests.benchmarks.extraction import colign_run
from tests.benchmarks.inputs import Bare, save_random_bert
from tests.benchmarks.kmeans import Ticks, seeds_of, timed


def milliseconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median of some calls, the device waited for."""
    work()
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(1000 * (time.perf_counter() - started))
    return float(np.median(found))


def made_on_device(tokens: int, hidden: int) -> np.ndarray:
    """Float16 vectors (token, hidden) in overlapping groups of unequal size, off centre as real layers are."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    groups = torch.randn(max(2, tokens // 60), hidden, device="cuda")
    centre = 0.5 * torch.randn(hidden, device="cuda")
    of = torch.from_numpy(rng.zipf(1.5, tokens) % len(groups)).cuda()
    made = [
        (groups[of[at]] + 0.8 * torch.randn(len(of[at]), hidden, device="cuda") + centre).half().cpu()
        for at in blocks(tokens, 65536)
    ]
    return torch.cat(made).numpy()


def copy_rate() -> float:
    """Bytes a second that are read and written by a copy on the device."""
    one, other = (torch.empty(2**30, dtype=torch.int8, device="cuda") for _ in range(2))
    return 2 * 2**30 / (milliseconds(lambda: other.copy_(one)) / 1000)


def plain_iteration(values: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """One iteration of Lloyd's algorithm in plain torch."""
    sums = torch.zeros_like(centroids)
    counts = torch.zeros(len(centroids), device="cuda")
    half = (centroids * centroids).sum(dim=1) / 2
    for at in blocks(len(values), 65536):
        wide = values[at].float()
        label = (half - wide @ centroids.T).argmin(dim=1)
        sums.index_add_(0, label, wide)
        counts += torch.bincount(label, minlength=len(centroids))
    return sums / counts.clamp(min=1)[:, None]


def plain_milliseconds(vectors: np.ndarray, seeds: np.ndarray) -> float:
    """Of one iteration."""
    values, centroids = torch.from_numpy(vectors).cuda(), torch.from_numpy(seeds).float().cuda()
    return milliseconds(lambda: plain_iteration(values, centroids))


def one_pass(rows: Rows, mean: np.ndarray, exact: np.ndarray, precision: str) -> tuple[dict[str, float], Any]:
    """Milliseconds of a pass and of its parts, and the labels (row)."""
    products = device.products(precision)
    (tokens, hidden), k = rows.values.shape, len(exact)
    rate = device.product_rate(hidden, k, precision)
    prepared = device.Centroids(exact, None, mean, products)
    some, centre = rows.values[: device.BLOCK_ROWS], device.put(mean)
    low, _, _ = products.convert(some, centre)
    share = tokens / len(some)

    def run() -> Any:
        return device.advance(rows, mean, [(prepared, None)], products)[0].label

    found = {
        "tflops": rate / 1e12,
        "floor_ms": 1000 * 2.0 * tokens * hidden * k / rate,
        "prepare_ms": milliseconds(lambda: device.Centroids(exact, None, mean, products)),
        "convert_ms": share * milliseconds(lambda: products.convert(some, centre)),
        "products_ms": share * milliseconds(lambda: products.multiply(low, prepared.columns)),
        "pass_ms": milliseconds(run),
    }
    return found, run()


def kmeans(tokens: int, hidden: int, k: int, restarts: int) -> dict[str, Any]:
    """Clustering."""
    vectors = made_on_device(tokens, hidden)
    seeds = seeds_of(vectors[:100_000], k, 0)
    mean = vectors[::17].astype(np.float64).mean(axis=0).astype(np.float32)
    rows = Rows(device.put(vectors))
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(), "tokens": tokens, "hidden": hidden, "k": k}
    found["copy_tb_s"] = copy_rate() / 1e12
    exact = seeds.astype(np.float64)
    for precision in ("auto", "float32"):
        found[precision], label = one_pass(rows, mean, exact, precision)
    found["whole_sums_ms"] = milliseconds(lambda: device.difference(rows.values, None, label, k, 0.0))
    moved = label.copy()
    moved[::50] = (moved[::50] + 1) % k
    found["two_percent_moved_ms"] = milliseconds(lambda: device.difference(rows.values, label, moved, k, 0.0))
    found["host_difference_ms"] = milliseconds(lambda: device.difference(rows.values, label, moved, k, 0.0).host())
    found["distances_ms"] = milliseconds(lambda: device.squared_distances(rows.values, exact, label))
    found["moments_ms"] = milliseconds(lambda: device.moments(rows.values))
    sample = vectors[:16384].astype(np.float64)
    found["seeding_ms"] = milliseconds(lambda: backend.seed_rows(sample, k, 1), 2)
    found["plain_torch_iteration_ms"] = plain_milliseconds(vectors, seeds)
    KMeans(k, init=seeds, max_iter=1, n_jobs=1).fit(vectors[:40_000])
    for threads in (1, 4):
        with Ticks() as ticks:
            seconds, model = timed(lambda n=threads: KMeans(k, init=seeds, max_iter=20, n_jobs=n).fit(vectors))
        found[f"estimator_{threads}_threads"] = {
            "fit_s": seconds, "iterations": model.n_iter_,
            "iteration_ms": (1000 * ticks.seconds).round(1).tolist(),
        }  # fmt: skip
    with Ticks() as ticks:
        seconds, model = timed(lambda: KMeans(k, n_init=restarts, random_state=0, max_iter=20, n_jobs=4).fit(vectors))
    found[f"estimator_{restarts}_restarts"] = {"fit_s": seconds, "median_ms": 1000 * float(np.median(ticks.seconds))}
    part = vectors[: 8 * BLOCK_ROWS]
    started = time.perf_counter()
    products = host.products("auto")
    host.advance(Rows(part), mean, [(host.Centroids(exact, None, mean, products), None)], products)
    found["cpu_thread_pass_ms"] = 1000 * (time.perf_counter() - started) * tokens / len(part)
    return found


def bare_seconds(model: str, sentences: list[list[str]], compute: str, layers: tuple[int, ...]) -> float:
    """Seconds of the forward passes alone, in Colign's batches."""
    encoder = open_encoder(model, compute, True, None, False)
    wanted = Wanted("encoder", layers, compute=compute)
    tokenised = encoder.tokenise(sentences, [np.arange(len(s)) for s in sentences], wanted)
    groups = encoder.batches(tokenised.pieces, wanted)
    padded = [encoder._pad([p.ids for p in group]) for group in groups]
    with torch.inference_mode():
        for _ in range(2):
            torch.cuda.synchronize()
            started = time.perf_counter()
            for ids, mask in padded:
                encoder._network(input_ids=ids, attention_mask=mask, output_hidden_states=list(layers))
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
    return seconds


def extraction(model: str, text: str, count: int) -> dict[str, Any]:
    """Vectors of every layer of a random BERT of base size."""
    sentences = list(read_sentences(text, "spaces"))[:count]
    words = sum(map(len, sentences))
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(), "sentences": len(sentences), "words": words}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = save_random_bert(folder / "model", model)
        layers = tuple(range(13))
        for compute in ("float32", "bfloat16"):
            bare = bare_seconds(place, sentences, compute, layers)
            prepare, run = colign_run(place, sentences, folder, 1, None, compute)  # type: ignore[arg-type]
            prepare()
            seconds, _ = timed(run)
            prepare()
            torch.cuda.reset_peak_memory_stats()
            again, _ = timed(run)
            found[compute] = {
                "bare_words_s": words / bare, "first_words_s": words / seconds, "words_s": words / again,
                "share_of_bare": bare / again, "gb_s": words * 13 * 768 * 2 / again / 1e9,
                "device_gb": torch.cuda.max_memory_allocated() / 1e9,
            }  # fmt: skip
        some = sentences[:: max(1, len(sentences) // 64)]
        at = [np.arange(len(s)) for s in some]
        wanted = Wanted("encoder", layers)
        there = open_encoder(place, "float32", True, None, False).read(some, at, wanted).vectors
        here = Bare(place, some, 2048).vectors()
        gap = np.linalg.norm(there - here, axis=2) / np.linalg.norm(here, axis=2)
        found["relative_gap_to_cpu"] = {"mean": float(gap.mean()), "largest": float(gap.max())}
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kmeans", "extraction"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("text", nargs="?")
    for name, default in (
        ("tokens", 10**6), ("hidden", 768), ("k", 600), ("restarts", 10), ("sentences", 20_000),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    a = parser.parse_args()
    if a.what == "kmeans":
        found = kmeans(a.tokens, a.hidden, a.k, a.restarts)
    else:
        found = extraction(a.model, a.text, a.sentences)
    sys.stdout.write(json.dumps(found, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
