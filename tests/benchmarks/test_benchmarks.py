"""Benchmarks run as tests at a tiny size, so that they cannot rot; speed is never asserted here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import stages
from jobs.layout import Layout
from tests.benchmarks import alignment, dictionary, kmeans, metrics, planning, scheduler, seeding, simulation
from tests.benchmarks.codecs import CODECS, read_values
from tests.benchmarks.codecs import compare as compare_codecs
from tests.benchmarks.extraction import colign_run
from tests.benchmarks.extraction import compare as compare_extraction
from tests.benchmarks.inputs import Bare, save_random_bert, save_random_xlmr
from tests.benchmarks.measure import measure
from tests.benchmarks.neurox_parity import colign_vectors, largest
from tests.benchmarks.neurox_parity import compare as compare_with_neurox
from tests.oracles.vectors import read_one_by_one


def test_kmeans__same_iterations_and_inertia_as_the_peer() -> None:
    vectors = kmeans.made_activations(3000, 16)
    found = kmeans.fit(vectors, k=20, threads=1)
    assert found["iterations"] == found["peer_iterations"]
    assert abs(found["inertia_relative_difference"]) < 1e-5
    assert found["labels_equal"] > 0.999


def test_seeding__is_about_as_good_as_the_peer() -> None:
    found = seeding.measure(rows=1000, k=20, draws=3)
    assert found["by rejection"][1] == pytest.approx(found["scikit-learn"][1], rel=0.1)
    assert found["by rejection, 2 threads"][1] == found["by rejection"][1]
    assert all(seconds > 0 for seconds, _ in found.values())


def test_kmeans__every_comparison_runs() -> None:
    vectors = kmeans.made_activations(3000, 16)
    assert abs(kmeans.restarts(vectors, k=9, threads=1, count=2)["best_inertia_relative_difference"]) < 1e-4
    streamed = kmeans.streamed(kmeans.made_activations(3000, 256), k=4, threads=1, count=2, iterations=5)
    assert streamed["1_runs"]["labels_equal"]
    assert streamed["2_runs"]["labels_equal"]
    found = kmeans.large(gigabytes=0.002, hidden=16, k=4, threads=1, memory=0.01, iterations=2)
    assert found["rows"] >= 16384


def test_dictionary__arrays_and_loop_count_the_same() -> None:
    speeds = dictionary.compare(3001, types=50)
    assert set(speeds) == {"count", "dictionary", "loop", "read"}


def test_metrics__the_script_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["metrics", "--types", "2000"])
    metrics.main()
    assert "all sweeps of Figure 30 (63 points)" in capsys.readouterr().out


def test_measure__counts_memory_of_a_command() -> None:
    script = "import time; kept = bytearray(60 * 2**20); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(3)"
    found = measure([sys.executable, "-c", script])
    assert found["exit_code"] == 0
    assert 60 * 2**20 < found["peak_bytes"] < 200 * 2**20


def test_parity__layers_agree_where_neurox_is_installed(bert: str, mt5: str, tmp_path: Path) -> None:
    pytest.importorskip("neurox", reason="NeuroX is installed by hand, see neurox_parity.py")
    texts = [[["die", "katze"], ["ein", "hund", "bellt"]], [["a", "cat"], ["the", "dog", "barks"]]]
    xlmr = save_random_xlmr(tmp_path, [s for text in texts for s in text], blocks=1, hidden=64, pieces=60)
    for model in (bert, mt5, xlmr):
        found = compare_with_neurox(model, texts, threads=1, referee=True)
        for stack in found["stacks"].values():
            assert max(stack["relative"]) < 1e-5
            assert max(stack["colign - neurox, float64"]) < 1e-9


def test_parity__same_loop_without_batches(bert: str) -> None:
    sentences = [["die", "katze"], ["ein", "hund", "bellt"]]
    ours = colign_vectors(bert, sentences, "encoder", None, torch.float32, threads=1, batch_subwords=1)
    torch.set_num_threads(1)
    assert max(largest(ours, read_one_by_one(bert, sentences))) == 0


def test_extraction__every_way_has_a_speed(bert: str, tmp_path: Path) -> None:
    model = save_random_bert(tmp_path, bert, blocks=1, hidden=64)
    speeds, ratios = compare_extraction(model, [["die", "katze"], ["ein", "hund"]], threads=1, repeats=1)
    assert "colign float32" in speeds
    assert "bare side by side bfloat16" in speeds
    assert all(ratio > 0 for ratio in ratios.values())


def test_codecs__rounding_is_as_large_as_its_bits_allow(bert: str) -> None:
    values = Bare(bert, [["die", "katze", "sieht"]] * 3, 64).vectors()
    assert values.shape == (4, 9, 24)
    rows = compare_codecs(values, repeats=1)
    assert len(rows) == 2 * (1 + len(CODECS))
    for row in rows:
        if (bits := CODECS.get(row[1], (None,))[0]) is not None:
            assert 0 < row[-2] <= 2 ** -(bits + 1)


def test_codecs__reads_a_store_of_ours(bert: str, tmp_path: Path) -> None:
    sentences = [["die", "katze"], ["ein", "hund"]]
    found = colign_run(bert, sentences, tmp_path, 1, 64, "float32")
    assert found is not None
    for step in found:
        step()
    values = read_values(str(tmp_path / "float32.zarr"), 3)
    assert values.dtype == "float16"
    np.testing.assert_allclose(values, Bare(bert, sentences, 64).vectors()[:, :3], rtol=2e-3, atol=1e-3)


def test_alignment__scores_every_symmetrisation_and_another_tools_links(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["a b", "b c", "c", "a", "b"] * 4
    for name, words in (("src", lines), ("tgt", [line.upper() for line in lines])):
        (tmp_path / name).write_text("\n".join(words) + "\n")
    gold = tmp_path / "gold"
    gold.write_text("0-0 1-1\n0-0 1p1\n")
    texts = [str(tmp_path / name) for name in ("src", "tgt")]
    given = [*texts, str(gold), "--more", *texts, "--other", f"same={gold}"]
    for lower in ([], ["--lower"]):
        alignment.main([*given, *lower, "--write", str(tmp_path / "text")])
    assert (tmp_path / "text").read_text().splitlines() == [f"{line} ||| {line}" for line in lines] * 2
    alignment.main([*given, "--aligner", "fast_align", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["scores"][0]["aer"] == 0
    assert [row["symmetrise"] for row in found["scores"][1:]] == list(alignment.SYMMETRISATIONS)
    assert found["costs"][0]["sentences"] == 40


def test_planning__the_script_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tokens", "1e5", "--languages", "3", "--pairs", "all", "--done", "0.5"]
    monkeypatch.setattr(sys, "argv", ["planning", *options])
    planning.main()
    [found] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["left"] < found["tasks"]


@pytest.mark.slow
def test_scheduler__every_verb_has_a_cost() -> None:
    found = scheduler.measure(count=8, languages=3, workers=(1,), wait=0.1)
    assert {row["verb"] for row in found} == {"map", "fold"}
    assert all(row["tasks_a_second"] > 0 for row in found)


def test_simulation__tasks_are_taken_in_order_as_workers_come_free() -> None:
    assert simulation.makespan([3, 1, 1, 1], 2, handing_out=0) == 3
    assert simulation.makespan([1, 1, 3], 2, handing_out=0) == 4
    assert simulation.makespan([1] * 10, 100, handing_out=2) == 19
    assert simulation.makespan([], 2, handing_out=1) == 0


def test_simulation__work_on_one_worker_is_that_of_the_rates(tmp_path: Path) -> None:
    study = planning.made_study(tmp_path, 3, "pivot", concepts={"k": 10})
    context = stages.context(study, Layout(str(tmp_path / "study")), 1, 2**34)
    text = planning.made_text(study, 600_000)
    planned = stages.stages(context, text, 2**34)
    rates = simulation.Rates(1000, 1e9, 1e30, 1e30, 1e30, 0, 0, 7, 0.5, 1, 2000, 100, 2**34, 1)
    found = simulation.simulate(context, text, planned, 1, rates)
    assert found["activations"] == pytest.approx(600)
    assert found["corpus"] == pytest.approx(300)
    # vectors alone and in two sets of two languages
    clustered = 600_000 + 2 * 400_000
    assert found["concepts"] == pytest.approx(13 * 7 * clustered * 2 * 384 * 10 * 0.5 / 1e9)
    assert simulation.simulate(context, text, planned, 4, rates)["activations"] < 600 / 3
