"""Pharaoh's form, read at once and by plain loops; bad input."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.exchange import link_files
from engine.exchange.link_files import read_pharaoh
from schemas.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("links")


@given(st.data())
def test_read_pharaoh__equals_the_loop(folder: Path, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.tuples(st.integers(1, 1200), st.integers(1, 12)), min_size=1, max_size=5))
    lines, expected = [], []
    starts = [0, 0]
    for n, m in lengths:
        pairs = data.draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, m - 1)), max_size=4))
        space = data.draw(st.sampled_from([" ", "  ", "\t"]))
        lines.append(space.join(f"{i}-{j}" for i, j in pairs) + data.draw(st.sampled_from(["", " ", "\r"])))
        expected += [[starts[0] + i, starts[1] + j] for i, j in pairs]
        starts = [starts[0] + n, starts[1] + m]
    last = data.draw(st.sampled_from(["", "\n"])) if lines[-1] else "\n"
    text = ("\n".join(lines) + last).encode()
    name = data.draw(st.sampled_from(["a.align", "a.align.gz"]))
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_files, "_BLOCK", data.draw(st.integers(1, 40)))
        found = read_pharaoh(str(folder / name), *np.array(lengths).T)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-0\n0-2\n", r"l\.align, line 2: link 0-2 is out of range: the sentences have 1 and 2 words, .* 0-1; give"),
        ("0-0\n1-0\n", r"line 2: link 1-0 is out of range"),
        ("0-0 1-1 2-0\n\n", r"line 1: link 2-0"),
        ("0-0\n", r"1 lines, and the texts have 2 sentences; expected a line of links for each"),
        ("0-0\n\n\n", r"3 lines, and the texts have 2"),
        ("0-0\n0\n", r"line 2: '0' is no link; expected links such as 0-0 1-2"),
        ("0-0\n0-\n", "line 2: '0-' is no link"),
        ("0-0 -1\n\n", "line 1: '-1' is no link"),
        ("0-0-1-1\n\n", "line 1: '0-0-1-1' is no link"),
        ("0--0\n\n", "line 1: '0--0' is no link"),
        ("0- 0\n\n", "line 1: '0-' is no link"),
        ("0-0 -\n\n", "line 1: '-' is no link"),
        ("0-0,1-1\n\n", "line 1: '0-0,1-1' is no link"),
        ("\n0p0\n", "line 2: '0p0' is no link"),
        ("0-9999999999\n\n", "line 1: '0-9999999999' is no link"),
        ("0-\n0\n", "line 1: '0-' is no link"),
        ("0-0\x0b0-0\n\n", "expected lines of links"),
    ],
)  # fmt: skip
def test_read_pharaoh__bad_input(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "l.align"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pharaoh(str(path), np.array([2, 1]), np.array([2, 2]))


def test_read_pharaoh__no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_pharaoh(str(tmp_path / "none"), np.array([1]), np.array([1]))
    (tmp_path / "l.gz").write_bytes(b"0-0")
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_pharaoh(str(tmp_path / "l.gz"), np.array([1]), np.array([1]))
    with pytest.raises(InputError, match="cannot be read"):
        read_pharaoh(str(tmp_path), np.array([1]), np.array([1]))
