"""Reading of a parallel text into a corpus."""

import gzip
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given

from engine import store
from engine.corpus import write_corpus
from engine.selection import measure, write_selections
from engine.text import some_sentences
from schemas.corpus import CORPUS, SELECTION
from schemas.errors import InputError
from schemas.selection import Selection
from tests.oracles.texts import corpus
from tests.small_texts import blocks, joined, parallel, read, write


@given(parallel, blocks)
def test_write_corpus__any_blocks_equal_a_plain_reading(texts: tuple[list[list[str]], ...], block: int) -> None:
    given_ = dict(zip(("de", "ar", "en"), texts, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        found = read(write(Path(folder), **joined(given_)), block=block)
    xr.testing.assert_equal(found, corpus(given_))
    for v in CORPUS.variables:
        assert found[v.name].dims == v.dims
        assert found[v.name].attrs["long_name"] == v.meaning


def test_write_corpus__from_files(tmp_path: Path) -> None:
    files = write(tmp_path, de="Das Haus.\nDer Hund\n", en="\ufeffThe house.\r\nThe dog")
    found = read(files, "regex", fingerprint="f")
    assert some_sentences(found, "de", np.arange(2)) == [["Das", "Haus", "."], ["Der", "Hund"]]
    assert some_sentences(found, "en", np.arange(2)) == [["The", "house", "."], ["The", "dog"]]
    assert found.position.values.tolist() == [0, 1, 2, 0, 1] * 2
    assert found.form.values.tolist() == [".", "Das", "Der", "Haus", "Hund", ".", "The", "dog", "house"]
    assert (found.attrs["words"], found.attrs["fingerprint"]) == ("regex", "f")
    contents = {language: Path(path).read_bytes() for language, path in files.items()}
    assert json.loads(found.attrs["sha256"]) == {
        language: hashlib.sha256(content).hexdigest() for language, content in contents.items()
    }
    assert json.loads(found.attrs["bytes"]) == {language: len(content) for language, content in contents.items()}


def test_write_corpus__chunks_are_small_and_guarded(tmp_path: Path) -> None:
    found = read(write(tmp_path, de="ein Haus\n", en="a house\n"))
    for v in CORPUS.variables:
        assert found[v.name].encoding["compressors"][0].to_dict()["configuration"]["checksum"], v.name
        if v.dims != ("language",):
            assert 2**16 <= found[v.name].encoding["chunks"][-1] <= 2**20, v.name
    write_selections({"de": str(tmp_path / "de.zarr")}, found, Selection(min_count=1))
    token_id = store.load(str(tmp_path / "de.zarr"), SELECTION).token_id
    assert token_id.encoding["compressors"][0].to_dict()["configuration"]["checksum"]
    assert 2**16 <= token_id.encoding["chunks"][0] <= 2**20


def test_write_corpus__gzip(tmp_path: Path) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    packed = str(tmp_path / "de.txt.gz")
    Path(packed).write_bytes(gzip.compress(Path(files["de"]).read_bytes()))
    xr.testing.assert_identical(read(files | {"de": packed}), read(files))


def test_write_corpus__reads_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, de="ein Haus\n", en="a house\n")
    opened: list[str] = []
    open_ = LocalFileSystem.open

    def counted(system: LocalFileSystem, path: str, *mode: str, **options: Any) -> Any:
        opened.extend([path] if path in files.values() else [])
        return open_(system, path, *mode, **options)

    monkeypatch.setattr(LocalFileSystem, "open", counted)
    read(files)
    assert opened == list(files.values())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["extend", "flush", "replace", "describe"])
def test_write_corpus__again_after_it_was_killed(tmp_path: Path, step: str) -> None:
    long = {"de": [["a", "b"], ["c"], ["d", "e", "f"]] * 5, "en": [["v"], ["w", "x"], ["y"]] * 5}
    short = {"de": [["b", "a"]], "en": [["y"]]}
    path = str(tmp_path / "corpus.zarr")
    calls = 0

    def dying(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2 or step == "describe":
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"engine.store.{step}" if step == "describe" else f"engine.store.Growing.{step}", dying)
        with pytest.raises(Killed):
            write_corpus(path, write(tmp_path, **joined(long)), "spaces", block=4)
    assert not Path(path).exists()
    xr.testing.assert_equal(read(write(tmp_path, **joined(short)), block=4), corpus(short))


PEAK = """
import resource, sys
import numpy as np
from engine import store, text
from engine.corpus import write_corpus
from engine.selection import Selection, measure, write_selections
from schemas.corpus import CORPUS
files = {language: f"{sys.argv[1]}/text.txt" for language in ("de", "en")}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rule = Selection(max_sentence_words=9)
measure(files, "spaces", rule)
write_corpus(f"{sys.argv[1]}/corpus.zarr", files, "spaces", block=2**15)
corpus = store.load(f"{sys.argv[1]}/corpus.zarr", CORPUS)
write_selections({"de": f"{sys.argv[1]}/de.zarr"}, corpus, rule, block=2**15)
tokens = text.span(corpus, "en", "token")
text.sentences_with(corpus, "en", np.linspace(tokens.start, tokens.stop - 1, 1000).astype(int), 2**15)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, tokens.stop)
"""


def test_write_corpus__memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    found = []
    for times in (1, 10):
        lines = (f"w{i % 997} w{i % 31} w{i % 7} w{i % 89} w{i % 11}\n" for i in range(20_000))
        (tmp_path / "text.txt").write_text("".join(lines) * times)
        root = Path(__file__).parents[1]
        command = [sys.executable, "-c", PEAK, str(tmp_path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        found.append([int(word) for word in done.stdout.split()])
    (small, tokens), (large, more) = found
    assert more == 10 * tokens
    assert (large - small) * 1024 < 4 * (more - tokens), "less than the numbers of the types alone"


def test_write_corpus__unequal_numbers_of_lines(tmp_path: Path) -> None:
    for texts, found in (
        ({"de": "a\nb\n", "en": "x\n"}, "2, .*en.txt: 1"),
        ({"de": "a\n", "en": "x\ny\n"}, "1, .*: 2"),
    ):
        files = write(tmp_path, **texts)
        for attempt in (read, lambda files: measure(files, "spaces", Selection())):
            with pytest.raises(InputError, match=rf"equal numbers of lines, found .*de\.txt: {found}; line i of every"):
                attempt(files)
        assert not (tmp_path / "corpus.zarr").exists()


def test_write_corpus__no_lines(tmp_path: Path) -> None:
    files = write(tmp_path, de="a\n", en="")
    for attempt in (read, lambda files: measure(files, "spaces", Selection())):
        with pytest.raises(InputError, match=r"en\.txt: the file is empty; expected one sentence a line"):
            attempt(files)
    assert not (tmp_path / "corpus.zarr").exists()


@pytest.mark.parametrize("content", [b"a\n\nb\n", b"a\nb \xff c\nd\n"])
def test_write_corpus__bad_text_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    files = write(tmp_path, de="a\nb\nc\n", en="")
    Path(files["en"]).write_bytes(content)
    for attempt in (read, lambda files: measure(files, "spaces", Selection())):
        with pytest.raises(InputError, match=r"en\.txt, line 2: "):
            attempt(files)
    assert not (tmp_path / "corpus.zarr").exists()
