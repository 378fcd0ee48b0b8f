"""Readers of text with answers: forms, and messages on what is wrong."""

import gzip
from pathlib import Path

import pytest

from engine.labelled import check, labels_of, read, read_classified, read_tagged, read_translated
from schemas.errors import InputError


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_tagged__of_columns_comments_and_languages(tmp_path: Path) -> None:
    conll = "-DOCSTART- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nNew NNP I-NP B-LOC\nYork NNP I-NP I-LOC\n"
    found = read_tagged(written(tmp_path, "a.conll", conll))
    assert found.inputs == [["EU", "rejects"], ["New", "York"]]
    assert found.answers == [["B-ORG", "O"], ["B-LOC", "I-LOC"]]
    panx = read_tagged(written(tmp_path, "b.conll", "de:Anna\tB-PER\nde::\tO\n\n"))
    assert panx.inputs == [["Anna", ":"]]


def test_tagged__a_colon_of_some_words_stays(tmp_path: Path) -> None:
    assert read_tagged(written(tmp_path, "a.conll", "re:invent\tO\nwheel\tO\n")).inputs == [["re:invent", "wheel"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Anna\tB-PER\nlacht\n", "line 2: expected a word and a tag"),
        ("Anna\tPER\n", "line 1: expected a word and a tag"),
        ("Anna\tI-PER\n", "line 1: tag I-PER after O: in IOB2 every entity begins with a B- tag"),
        ("Anna\tB-PER\nOslo\tI-LOC\n", "line 2: tag I-LOC after B-PER"),
        ("\n\n", "holds no sentence"),
    ],
)
def test_tagged__names_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tagged(written(tmp_path, "a.conll", text))


def test_classified(tmp_path: Path) -> None:
    found = read_classified(written(tmp_path, "a.tsv", "sentence\tlabel\nit's \"fine\t1\n\nawful \t0\n"))
    assert (found.inputs, found.answers) == (["it's \"fine", "awful"], ["1", "0"])
    with pytest.raises(InputError, match="line 1: expected the header"):
        read_classified(written(tmp_path, "b.tsv", "fine\t1\n"))
    with pytest.raises(InputError, match="line 2: expected a text, a tab and its label; found 'fine'"):
        read_classified(written(tmp_path, "c.tsv", "sentence\tlabel\nfine\n"))


IWSLT = """<?xml version="1.0" encoding="UTF-8"?>
<mteval><srcset setid="x" srclang="german"><doc docid="1">
<title>no segment</title>
<seg id="1"> Tom &amp; Jerry  &lt;3 </seg>
<seg id="2"> & so fort </seg>
<seg id="3"></seg>
</doc></srcset></mteval>
"""


def test_translated__of_text_xml_and_training_files(tmp_path: Path) -> None:
    source = written(tmp_path, "x.de.xml", IWSLT)
    target = written(tmp_path, "x.en", "Tom & Jerry <3\nand so on\nleft out\n")
    found = read_translated(source, target)
    assert found.inputs == ["Tom & Jerry <3", "& so fort"]
    assert found.answers == ["Tom & Jerry <3", "and so on"]
    tagged = "<url>http://x</url>\n<title>T</title>\nEins\nZwei\n"
    (tmp_path / "train.tags.de-en.de.gz").write_bytes(gzip.compress(tagged.encode()))
    plain = written(tmp_path, "train.tags.de-en.en", "<url>http://x</url>\n<keywords>k</keywords>\nOne\nTwo\n")
    assert read_translated(str(tmp_path / "train.tags.de-en.de.gz"), plain).inputs == ["Eins", "Zwei"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '<seg id="1">a b\n<seg id="2">c</seg>',
            """line 3: expected </seg> behind '<seg id="1">' of line 2, found '<seg """,
        ),
        (
            '<seg id="1">a b <seg id="2">c</seg>',
            """line 2: expected </seg> behind '<seg id="1">' of line 2, found '<seg """,
        ),
        ('<seg id="1">a</seg>\n<seg id="2">b', """line 3: expected </seg> behind '<seg id="2">', found the end of"""),
        ('<seg id="1">a</seg>\nb</seg>', "line 3: expected <seg id=...>, found '</seg>'; every segment is <seg id"),
        ('<seg id="1">a</seg>\n<seg id="2" b</seg>', """line 3: expected <seg id=...>, found '<seg id="2" b'"""),
        ('<seg id="1">a</seg\n<seg id="2">b</seg>', "line 2: expected </seg> behind "),
    ],
    ids=[
        "not closed",
        "not closed on a line",
        "last not closed",
        "not opened",
        "half an opening tag",
        "half a closing tag",
    ],
)
def test_translated__segments_that_do_not_come_in_turn_are_refused(tmp_path: Path, body: str, message: str) -> None:
    """A missing </seg> in both files made one pair of two, with the tag between them."""
    sides = [written(tmp_path, f"x.{lang}.xml", f"<doc>\n{body}\n</doc>\n") for lang in ("de", "en")]
    with pytest.raises(InputError) as raised:
        read_translated(*sides)
    assert str(raised.value).startswith(f"{sides[0]}, {message}")


def test_translated__names_both_files(tmp_path: Path) -> None:
    one, two = written(tmp_path, "a", "x\ny\n"), written(tmp_path, "b", "x\n")
    with pytest.raises(InputError, match=r"a and .*b: expected equally many sentences, found 2 and 1"):
        read_translated(one, two)
    with pytest.raises(InputError, match="no such file"):
        read_translated(one, str(tmp_path / "gone"))
    (tmp_path / "latin").write_bytes(b"caf\xe9\ny\n")
    with pytest.raises(InputError, match=r"latin, line 1: byte 0xe9 at column 3 is not UTF-8"):
        read_translated(one, str(tmp_path / "latin"))


def test_check__finds_what_read_finds(tmp_path: Path) -> None:
    whole = {
        "tagging": [written(tmp_path, "a.conll", "Anna\tB-PER")],
        "classification": [written(tmp_path, "a.tsv", "sentence\tlabel\nfine\t1\n")],
        "translation": [written(tmp_path, "a.de", "eins\n\n"), written(tmp_path, "a.en", "one\ntwo\n")],
    }
    for kind, paths in whole.items():
        check(kind, {"de": paths})
        assert len(read(kind, {"de": paths})["de"]) == 1
        with Path(paths[0]).open("a") as file:
            file.write("\nx\n")
        messages = []
        for look in (check, read):
            with pytest.raises(InputError) as raised:
                look(kind, {"de": paths})
            messages.append(str(raised.value))
        assert messages[0] == messages[1]
        assert paths[0] in messages[0]


def test_labels__of_all_parts(tmp_path: Path) -> None:
    parts = {
        "de": (written(tmp_path, "de", "Anna\tB-PER\n"),),
        "en": (written(tmp_path, "en", "in\tO\nOslo\tB-LOC\n"),),
    }
    assert labels_of("tagging", read("tagging", parts)) == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
