"""Scores against the definitions as plain loops, and correlations against scipy and every permutation."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from engine.correlation import rank_correlation
from engine.scores import tabulate
from engine.scoring import score


def entities(tags: list[str]) -> set[tuple[int, int, str]]:
    """Spans of strict IOB2: a B- tag and the I- tags of its kind behind it; an I- tag that begins nothing is none."""
    found, at = set(), 0
    while at < len(tags):
        end = at + 1
        if tags[at].startswith("B-"):
            while end < len(tags) and tags[end] == f"I-{tags[at][2:]}":
                end += 1
            found.add((at, end, tags[at][2:]))
        at = end
    return found


TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=1, max_size=8)


@given(st.lists(TAGS, min_size=1, max_size=4), st.randoms())
def test_tags__f1_of_strict_spans(answers: list[list[str]], chance: object) -> None:
    found = [[chance.choice(["O", "B-PER", tag]) for tag in tags] for tags in answers]  # type: ignore[attr-defined]
    expected = [entities(tags) for tags in answers]
    guessed = [entities(tags) for tags in found]
    right = sum(len(a & b) for a, b in zip(expected, guessed, strict=True))
    all_guessed, all_expected = sum(map(len, guessed)), sum(map(len, expected))
    values = score("tagging", answers, found)
    assert values["precision"] == pytest.approx(right / all_guessed if all_guessed else 0)
    assert values["recall"] == pytest.approx(right / all_expected if all_expected else 0)
    assert values["f1"] == pytest.approx(2 * right / (all_guessed + all_expected) if all_guessed + all_expected else 0)


def test_labels__accuracy_and_mean_f1() -> None:
    values = score("classification", ["1", "1", "0", "0"], ["1", "0", "0", "0"])
    assert values["accuracy"] == 0.75
    assert values["f1"] == pytest.approx((2 * 1 / (2 + 1) + 2 * 2 / (2 * 2 + 1)) / 2)


def bleu(answers: list[str], found: list[str]) -> float:
    """Papineni et al. 2002 on words between spaces: geometric mean of four precisions times the brevity penalty."""
    right, total = Counter(), Counter()
    for answer, guess in zip(answers, found, strict=True):
        for n in range(1, 5):
            grams = [Counter(zip(*(line.split()[i:] for i in range(n)), strict=False)) for line in (answer, guess)]
            right[n] += sum((grams[0] & grams[1]).values())
            total[n] += sum(grams[1].values())
    length = [sum(len(line.split()) for line in lines) for lines in (answers, found)]
    penalty = min(1.0, math.exp(1 - length[0] / length[1]))
    return 100 * penalty * math.exp(sum(math.log(right[n] / total[n]) for n in range(1, 5)) / 4)


def test_translations__bleu_with_its_signature() -> None:
    answers = ["the cat sat on the mat today", "there is a small house near the river"]
    found = ["the cat sat on the mat", "there is a small house by the river"]
    values = score("translation", answers, found)
    assert values["bleu"] == pytest.approx(bleu(answers, found))
    assert values["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_table__is_nan_where_nothing_was_scored() -> None:
    rows = [
        {"checkpoint": "base", "task": "ner", "language": "de", "split": "test", "state": "base", "kind": "tagging",
         "signature": "s", "examples": 7, "f1": 0.25, "precision": 0.5, "recall": 1 / 6},
        {"checkpoint": "mt", "task": "ted", "language": "de-en", "split": "test", "state": "fine-tuned",
         "kind": "translation", "signature": "t", "examples": 9, "bleu": 20.0},
    ]  # fmt: skip
    table = tabulate(rows)
    assert float(table.f1.sel(checkpoint="base", task="ner", language="de", split="test")) == 0.25
    assert float(table.bleu.sel(checkpoint="mt", task="ted", language="de-en", split="test")) == 20
    assert int(table.f1.notnull().sum()) == int(table.bleu.notnull().sum()) == 1
    assert table.state.sel(checkpoint="mt", task="ted", language="de-en").item() == "fine-tuned"


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_correlation__is_spearmans(rows: int, columns: int, data: st.DataObject) -> None:
    value = st.sampled_from([0.0, 1, 2, 3, 4, np.nan])
    cells = st.lists(value, min_size=rows * columns, max_size=rows * columns)
    one, other = (np.array(data.draw(cells)).reshape(rows, columns) for _ in range(2))
    found = rank_correlation(one, other, draws=50)
    kept = ~np.isnan(one) & ~np.isnan(other)
    assert found["points"] == kept.sum()
    if kept.sum() < 3 or len({*one[kept]}) == 1 or len({*other[kept]}) == 1:
        assert np.isnan(found["rho"])
        return
    assert found["rho"] == pytest.approx(spearmanr(one[kept], other[kept]).statistic)
    assert 0 < found["p"] <= 1


def test_correlation__gives_no_interval_of_what_is_mostly_constant() -> None:
    """Of three points in one language one draw in nine has one point alone; of two checkpoints half of the draws."""
    three = rank_correlation(np.array([[0.1], [0.2], [0.3]]), np.array([[50.0], [60], [70]]))
    assert (three["rho"], three["points"]) == (1.0, 3)
    assert np.isnan([three["low"], three["high"]]).all()
    rows = np.array([[1.0, 1, 1, 1, 1], [2, 2, 2, 2, 2]])
    assert np.isnan(rank_correlation(rows, rows * 3)["low"])
    draw = np.random.default_rng(0)
    many = rank_correlation(draw.random((4, 5)), draw.random((4, 5)))
    assert -1 <= many["low"] <= many["rho"] <= many["high"] <= 1


def test_correlation__p_is_that_of_all_permutations() -> None:
    one, other = np.array([[1.0, 2, 3, 4, 5]]), np.array([[2.0, 1, 3, 5, 4]])
    rho = spearmanr(one[0], other[0]).statistic
    every = [spearmanr(one[0], p).statistic for p in itertools.permutations(other[0])]
    expected = np.mean([abs(r) >= rho - 1e-12 for r in every])
    assert rank_correlation(one, other)["p"] == pytest.approx(expected, abs=0.015)


def test_correlation__deals_whole_checkpoints_and_languages() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.random((3, 4)), draw.random((3, 4)) + 3 * draw.random((3, 1))
    rho = spearmanr(one.ravel(), other.ravel()).statistic
    every = [
        spearmanr(one.ravel(), other[np.ix_(rows, columns)].ravel()).statistic
        for rows, columns in itertools.product(itertools.permutations(range(3)), itertools.permutations(range(4)))
    ]
    expected = np.mean([abs(r) >= abs(rho) - 1e-12 for r in every])
    assert rank_correlation(one, other)["p"] == pytest.approx(expected, abs=0.015)


def test_correlation__is_not_taken_in_by_what_the_pairs_of_a_checkpoint_share() -> None:
    """Two variables that know nothing of each other, each with a large effect of its checkpoints and languages."""
    draw = np.random.default_rng(0)
    significant = {"whole": 0, "each": 0, "apart": 0}
    for seed in range(150):
        one, other = (
            3 * draw.normal(size=(6, 1)) + 2 * draw.normal(size=(1, 5)) + draw.normal(size=(6, 5)) for _ in range(2)
        )
        whole = rank_correlation(one, other, seed=seed, draws=199)
        each = rank_correlation(one.reshape(1, -1), other.reshape(1, -1), seed=seed, draws=199)
        significant["whole"] += whole["p"] <= 0.05
        significant["each"] += each["p"] <= 0.05  # as if the 30 pairs were independent
        significant["apart"] += not whole["low"] <= 0 <= whole["high"]
    assert significant["whole"] <= 15 < 30 < significant["each"]
    assert significant["apart"] <= 15


def test_correlation__leaves_out_points_without_a_score() -> None:
    found = rank_correlation(np.array([[1, 2, np.nan, 3.0]]), np.array([[1, 2, 9.0, 3]]), draws=20)
    assert (found["rho"], found["points"]) == (pytest.approx(1), 3)
    assert np.isnan(rank_correlation(np.array([[1, 2.0]]), np.array([[1, 2.0]]))["rho"])


def test_correlation__of_checkpoints_without_scores_is_that_of_the_others() -> None:
    draw = np.random.default_rng(1)
    one, other = draw.random((4, 3)), draw.random((4, 3))
    alone = rank_correlation(one[:3], other[:3], draws=500)
    other[3] = np.nan
    assert rank_correlation(one, other, draws=500) == alone
