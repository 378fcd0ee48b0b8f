"""What the words of concepts share, against plain loops, and how rules count."""

from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.labelled import check_tags, read_tags
from engine.properties import describe, forms_shared, score, tabulate
from schemas.errors import InputError


def share_of(words: list[str], holds: list[bool]) -> float:
    return sum(holds) / len(words)


def best(words: list[str], parts: dict[str, set[str]]) -> float:
    """Largest share of words that have one of all parts in common, of those that two different words have."""
    every = [part for part, words in Counter(chain.from_iterable(parts.values())).items() if words > 1]
    return max((share_of(words, [part in parts[word] for word in words]) for part in every), default=0.0)


@given(st.lists(st.text(alphabet="abC1", min_size=1, max_size=6), min_size=1, max_size=12), st.data())
def test_shares__are_those_of_loops(words: list[str], data: st.DataObject) -> None:
    labels = np.array([data.draw(st.lists(st.integers(0, 2), min_size=len(words), max_size=len(words)))])
    found = describe(np.array(words, object), labels, [4], 3)
    for concept in range(3):
        inside = [word for word, label in zip(words, labels[0], strict=True) if label == concept]
        if not inside:
            assert (found.share[0, concept] == 0).all()
            continue
        ends = {word: range(2, len(word)) for word in inside}
        runs = {w: {w[i:j] for i in range(len(w)) for j in range(i + 3, len(w) + 1)} for w in inside if len(w) > 3}
        expected = {
            "suffix": best(inside, {w: {w[-n:] for n in ends[w]} for w in inside}),
            "prefix": best(inside, {w: {w[:n] for n in ends[w]} for w in inside}),
            "ngram": best(inside, {word: runs.get(word, set()) for word in inside}),
        }
        for name, value in expected.items():
            assert float(found.share.sel(property=name)[0, concept]) == pytest.approx(value)
        assert int(found.types[0, concept]) == len(set(inside))
        assert int(found.tokens[0, concept]) == len(inside)


def test_labels__name_the_longest_that_all_of_them_share() -> None:
    words = np.array(["walking", "talking", "king", "ring", "sing", "Oslo", "Rome", "USA"], object)
    found = describe(words, np.array([[0, 0, 0, 1, 1, 2, 2, 2]]), [0], 3)
    named = {name: found.label.sel(property=name)[0].values.tolist() for name in found.property.values.tolist()}
    assert named["suffix"][0] == "ing"
    assert named["suffix"][1] == "ing"
    assert named["casing"] == ["", "", "title"]
    assert float(found.share.sel(property="casing")[0, 2]) == pytest.approx(2 / 3)


def test_a_word_alone__shares_nothing_with_itself() -> None:
    words = np.array(["Echterhäusern"] * 9 + ["Echterhäusern"] * 7 + ["walks", "talks"] + ["Rome"] * 3, object)
    found = describe(words, np.array([[0] * 9 + [1] * 9 + [2] * 3]), [0], 3)
    for name in ("suffix", "prefix", "ngram"):
        assert found.share.sel(property=name)[0].values[[0, 2]].tolist() == [0, 0]
        assert found.label.sel(property=name)[0].values[[0, 2]].tolist() == ["", ""]
    # what two words have counts, though more tokens have another ending
    of_two = {name: found.sel(property=name, layer=0, concept=1) for name in ("suffix", "prefix", "ngram")}
    assert float(of_two["suffix"].share) == float(of_two["ngram"].share) == pytest.approx(2 / 9)
    assert (str(of_two["suffix"].label.values), str(of_two["ngram"].label.values)) == ("alks", "alks")
    assert float(of_two["prefix"].share) == 0
    assert found.share.sel(property="casing")[0].values.tolist() == pytest.approx([1, 7 / 9, 1])


def test_forms_shared__by_more_than_nine_of_ten() -> None:
    words = ["walking", "talking", "unread", "unmade", "biology", "zoologist", "oncologic", "cat"]
    words += [f"{letter}{letter}ness" for letter in "bcdfghjkl"] + ["Oslo"]  # nine of ten are not more
    part = describe(np.array(words, object), np.array([[0, 0, 1, 1, 2, 2, 2, 4] + [5] * 10]), [7], 6)
    assert forms_shared(part.sel(layer=7)) == {0: "-alking", 1: "un-", 2: "-olog-"}


def test_rules__count_concepts() -> None:
    words = np.array([f"{a}{b}ing" for a in "abcdefgh" for b in "xy"] + ["cat", "ing", "tree", "Oslo"], object)
    labels = np.array([[0] * 16 + [1] * 4])
    tags = {"semantic": np.array(["act"] * 15 + ["x"] + ["thing"] * 4, object)}
    part = describe(words, labels, [0], 2, tags)
    found = score(part)
    names = [*part.property.values.tolist(), "lexical", "tagged"]
    of = {name: found["concepts"][0, names.index(name)].tolist() for name in ("suffix", "semantic", "lexical")}
    assert of["suffix"] == [1, 1]
    assert found["concepts"][0, names.index("semantic")].tolist() == [
        2,
        0,
    ]  # 15 of 16 is less than 95 %; 4 types are few
    assert found["considered"][0, 0].tolist() == [2, 1]
    table = tabulate([({"checkpoint": "a", "stack": "encoder", "selection": "en"}, part)])
    cell = table.sel(checkpoint="a", stack="encoder", selection="en", layer=0, property="suffix")
    assert float(cell.sel(rule="conceptx").concepts) == 1


def test_tags__of_words_by_their_places(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("DET N\nN V N\nX\n")
    found = read_tags(str(tmp_path / "t"), np.array([2, 3, 1]), np.array([1, 0, 1]), np.array([2, 0, 1]))
    assert found.tolist() == ["N", "DET", "V"]


def test_tags__of_words_that_have_none(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("O _ SEM_UNK NO_UNK PER O O OBJ X_UNKNOWN __ O\n")
    places = np.arange(11)
    found = read_tags(str(tmp_path / "t"), np.array([11]), np.zeros(11, int), places)
    assert found.tolist() == ["", "", "", "", "PER", "", "", "OBJ", "X_UNKNOWN", "__", ""]
    words = np.array([f"w{place}" for place in places], object)
    part = describe(words, np.array([[0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2]]), [0], 3, {"semantic": found})
    assert part.share.sel(property="semantic")[0].values.tolist() == [0, 0.5, 0.2]
    assert part.label.sel(property="semantic")[0].values.tolist() == ["", "PER", "OBJ"]
    assert score(part)["concepts"][0, part.property.values.tolist().index("semantic"), 0] == 0


def test_tags__several_of_a_word_count_each(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("N|||V V O|||N_UNK N|||O|||N _\n")
    found = read_tags(str(tmp_path / "t"), np.array([5]), np.zeros(5, int), np.arange(5))
    assert found.tolist() == ["N|||V", "V", "", "N|||N", ""]
    words = np.array(list("abcde"), object)
    part = describe(words, np.zeros((1, 5), int), [0], 1, {"pos": found})
    assert part.share.sel(property="pos").item() == 2 / 5
    assert part.label.sel(property="pos").item() == "N"


def test_tags__of_a_list_in_json(tmp_path: Path) -> None:
    file, where = tmp_path / "labels.json", (np.array([2, 1]), np.array([1, 0]), np.array([0, 1]))
    file.write_text('["DET N",\n"X"]')
    assert read_tags(str(file), *where).tolist() == ["X", "N"]
    for content, message in (
        ('["DET N",\nX]', "labels.json, line 2: not of the form of JSON"),
        ('{"DET": "N"}', "labels.json: expected a list of a string for each sentence"),
        ('["DET N", ["X"]]', "labels.json: expected a list of a string for each sentence"),
        ('["DET N", "X Y"]', "labels.json, item 2: found 2 tags, expected 1"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            read_tags(str(file), *where)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ("DET N\nN V\nX\n", r"t, line 2: found 2 tags, expected 3, one for each word of the sentence"),
        ("BOS DET N\nBOS N V N\nBOS X\n", r"t, line 1: found 3 tags, expected 2, .*; tag the text line by line"),
        ("DET N\nN V N\nX X\n", r"t, line 3: found 2 tags, expected 1"),  # a sentence without a word that is studied
        ("DET N\n\nN V N\nX\n", r"t, line 2: found 0 tags, expected 3"),
        ("DET N\nN V N\n", r"t: found 2 lines, expected 3, one for each line of the text; tag the whole text"),
        ("DET N\nN V N\nX\nX\nX\n", r"t: found 5 lines, expected 3"),
        ("", r"t: found 0 lines, expected 3"),
    ],
)
def test_tags__of_another_text_are_refused(tmp_path: Path, tags: str, message: str) -> None:
    (tmp_path / "t").write_text(tags)
    with pytest.raises(InputError, match=message):
        read_tags(str(tmp_path / "t"), np.array([2, 3, 1]), np.array([1, 0, 1]), np.array([2, 0, 1]))
    with pytest.raises(InputError, match=message):
        check_tags(str(tmp_path / "t"), iter([2, 3, 1]))
