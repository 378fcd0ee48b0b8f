"""Planning of a study of a hundred languages: what each task takes in the process that hands them out."""

import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from engine.records import read_records
from jobs import run, stages
from jobs.layout import Layout
from jobs.plan import rows
from jobs.vectors import groups
from tests.benchmarks.planning import made_study, made_text, write_records

LANGUAGES, TOKENS = 100, 2 * 10**7
BILLION = 10**9
MEMORY = 16 * 2**30


def test_plan__a_task_takes_few_bytes_and_grows_with_nothing_else(tmp_path: Path) -> None:
    study = made_study(tmp_path, LANGUAGES, "pivot")
    found = {}
    for tokens in (TOKENS, 4 * TOKENS):
        context = stages.context(study, Layout(str(tmp_path / "study")), 1, MEMORY)
        text = made_text(study, tokens)
        stages.stages(context, text, MEMORY)  # what is imported and remembered once
        tracemalloc.start()
        planned = stages.stages(context, text, MEMORY)
        table = rows(planned, {})
        left = [key for stage in planned for key in stages.missing(stage, {})]
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(int(row["tasks"]) for row in table) == len(left)
        found[tokens] = len(left), held, peak
    (few, *fewer), (many, *more) = found.values()
    assert many - few > 3000
    for a, b in zip(fewer, more, strict=True):
        assert b / many < 600  # 10^5 tasks take less than 60 MB
        assert (b - a) / (many - few) < 600


def test_plan__all_pairs_of_many_languages_are_counted_in_both_directions(tmp_path: Path) -> None:
    study = made_study(tmp_path, LANGUAGES, "all")
    context = stages.context(study, Layout(str(tmp_path / "study")), 1, MEMORY)
    planned = {stage.name: stage for stage in stages.stages(context, made_text(study, TOKENS), MEMORY)}
    pairs = LANGUAGES * (LANGUAGES - 1) // 2
    # directions between languages, and within mixed text of each pair, and languages in it
    assert Counter(len(key.part) for key in planned["counts"].keys) == {5: 2 * pairs, 6: 2 * pairs, 4: pairs}
    assert len(planned["concepts"].keys) == (LANGUAGES + pairs) * 13
    assert planned["counts"].memory < 4 * 2**30  # of two languages, however many there are


def test_plan__what_every_task_is_sent_stays_small(tmp_path: Path) -> None:
    for pairs, most in (("pivot", 100_000), ("all", 1_000_000)):
        study = made_study(tmp_path, LANGUAGES, pairs)
        context = stages.context(study, Layout(str(tmp_path / "study")), 1, MEMORY)
        assert len(pickle.dumps(context)) < most


def test_records__of_half_a_study_are_read_once_and_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = made_study(tmp_path, LANGUAGES, "pivot")
    layout, tokens = Layout(str(tmp_path / "study")), 10**7
    write_records(study, layout, tokens, 0.5)
    context = stages.context(study, layout, 1, MEMORY)
    reads = []
    monkeypatch.setattr("jobs.run.read_records", lambda folder: reads.append(folder) or read_records(folder))
    done, stale = run.records(context)
    assert (len(reads), stale) == (1, [])
    planned = stages.stages(context, made_text(study, tokens), MEMORY)
    assert sum(len(stages.missing(stage, done)) for stage in planned) == sum(len(s.keys) for s in planned) - len(done)


@pytest.mark.parametrize("slots", [1, 64, 1024])
def test_groups__tasks_are_long_and_enough_for_all_workers(tmp_path: Path, slots: int) -> None:
    study = made_study(tmp_path, LANGUAGES, "pivot")
    context = stages.context(study, Layout(str(tmp_path / "study")), 1, MEMORY)
    planned = stages.stages(context, made_text(study, BILLION), MEMORY)
    keys = next(stage.keys for stage in planned if stage.name == "activations")
    tasks = list(groups(keys, slots))
    assert sum(key.stop - key.start for key in tasks) == BILLION  # every word once
    assert len(tasks) >= 7 * slots
    assert BILLION / len(tasks) > 10**5  # a GPU that reads so many a second has more than a second of work in each
