"""Ward's clustering against scikit-learn's, and its memory against what a process takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from engine import ward
from schemas.errors import BudgetError, InputError

_MEASURE = """
import sys
import numpy as np
from engine import ward

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

rows = np.random.default_rng(0).standard_normal((int(sys.argv[1]), int(sys.argv[2])), np.float32)
before = peak()
ward.labels(rows, [600, 20])
print(peak() - before)
"""


def drawn(rows: int, hidden: int, seed: int, dtype: str, distinct: int) -> np.ndarray:
    """Rows of few whole numbers, with many ties, or of real numbers where `distinct` is 0."""
    random = np.random.default_rng(seed)
    size = (rows, hidden)
    return (random.integers(distinct, size=size) if distinct else random.normal(size=size)).astype(dtype)


problems = st.builds(
    drawn,
    st.integers(2, 60),
    st.integers(1, 12),
    st.integers(0, 10**6),
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from([0, 0, 2, 5]),
)


@pytest.mark.filterwarnings("ignore:scipy.cluster:scipy.cluster.hierarchy.ClusterWarning")  # of two points in a plane
@given(problems, st.data())
def test_labels__equal_scikit_learns(rows: np.ndarray, data: st.DataObject) -> None:
    ks = data.draw(st.lists(st.integers(1, len(rows)), min_size=1, max_size=4))
    found = ward.labels(rows, ks)
    assert found.dtype == np.int32
    assert found.shape == (len(ks), len(rows))
    for k, of_run in zip(ks, found, strict=True):
        truth = AgglomerativeClustering(k, linkage="ward").fit_predict(rows.astype(np.float64))
        first = list(dict.fromkeys(truth.tolist()))
        assert of_run.tolist() == [first.index(label) for label in truth.tolist()]


@given(problems, st.data())
def test_labels__of_more_concepts_lie_within_those_of_fewer(rows: np.ndarray, data: st.DataObject) -> None:
    few, many = sorted(data.draw(st.lists(st.integers(1, len(rows)), min_size=2, max_size=2)))
    coarse, fine = ward.labels(rows, [few, many])
    assert len(set(zip(coarse.tolist(), fine.tolist(), strict=True))) == many
    assert len(np.unique(coarse)) == few


def test_labels__k_concepts_though_all_rows_are_equal() -> None:
    found = ward.labels(np.ones((7, 3), np.float32), range(1, 8))
    assert [len(np.unique(of_run)) for of_run in found] == [1, 2, 3, 4, 5, 6, 7]


def test_labels__finds_what_is_apart() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(5, size=300)
    rows = (truth[:, None] * 20 + random.normal(size=(300, 8))).astype(np.float16)
    assert adjusted_rand_score(truth, ward.labels(rows, [5])[0]) == 1


def test_labels__one_row() -> None:
    assert ward.labels(np.ones((1, 3)), [1, 1]).tolist() == [[0], [0]]


def test_labels__square_rows_are_vectors_and_no_distances() -> None:
    rows = 1 - np.eye(4)  # scipy would warn that this looks like a matrix of distances
    assert ward.labels(rows, [4]).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("ks", [[0], [2, 5], [-1], [9, 5]])
def test_labels__numbers_of_concepts_out_of_range(ks: list[int]) -> None:
    with pytest.raises(InputError, match=r"4 rows cannot form .* concepts; give numbers from 1 to 4"):
        ward.labels(np.zeros((4, 2)), ks)


@given(st.integers(0, 10**5), st.integers(1, 5000), st.integers(0, 10**11))
def test_check__names_the_largest_number_of_rows_that_fits(rows: int, hidden: int, budget: int) -> None:
    if ward.memory(rows, hidden) <= budget:
        ward.check(rows, hidden, budget)
        return
    with pytest.raises(BudgetError) as raised:
        ward.check(rows, hidden, budget)
    message = str(raised.value)
    assert f"{rows:,} rows of {hidden:,} numbers needs {ward.memory(rows, hidden):,} bytes" in message
    assert f"allowed are {budget:,}:" in message
    assert "K-means" in message
    if "not even one" in message:
        assert ward.memory(1, hidden) > budget
    else:
        most = int(message.split("at most ")[1].split(" rows")[0].replace(",", ""))
        assert ward.memory(most, hidden) <= budget < ward.memory(most + 1, hidden)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process from /proc")
@pytest.mark.parametrize(("rows", "hidden"), [(6000, 32), (6000, 768), (3000, 4096)])
def test_memory__a_process_takes_what_is_projected(rows: int, hidden: int) -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", _MEASURE, str(rows), str(hidden)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    taken = int(done.stdout)
    assert taken <= ward.memory(rows, hidden) <= 1.25 * taken
