"""Which checkpoints the overview compares, and which one figures of a pair are of."""

from pathlib import Path

import pytest

from jobs import overview
from jobs.files import load_study
from schemas.study import Study
from tests.small_study import SmallStudy


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A base checkpoint, one tuned on German and English, and one on French and English."""
    small = SmallStudy(tmp_path / "s", "model")
    tuned = {"ner": ["de", "en"], "other": ["fr", "en"]}
    of_tuned = {name: {"model": "model", "tuned_on": languages} for name, languages in tuned.items()}
    small.set("checkpoints", {"base": {"model": "model"}, **of_tuned})
    return load_study(str(small.file))[0]


def test_overview__compares_what_was_not_tuned_with_what_was_tuned_on_its_text(study: Study) -> None:
    assert study.language_sets[0] == ("de", "en")
    assert overview.before_and_after(study) == ["base", "ner"]
    other = study.model_copy(update={"language_sets": (("fr", "en"), ("de", "en"))})
    assert overview.before_and_after(other) == ["base", "other"]
    given = study.checkpoints
    random = given["base"].model_copy(update={"untrained": True})
    for order, expected in (
        ({"ner": given["ner"], "base": given["base"]}, ["base", "ner"]),
        ({"random": random, "base": given["base"], "ner": given["ner"]}, ["base", "ner"]),
        ({"random": random, "ner": given["ner"]}, ["random", "ner"]),
        ({"base": given["base"]}, ["base"]),
    ):
        assert overview.before_and_after(study.model_copy(update={"checkpoints": order})) == expected


def test_figures_of_a_pair__are_of_the_last_that_was_tuned_on_it(study: Study) -> None:
    given = study.checkpoints
    for checkpoints, languages, expected in (
        (["base", "ner", "other"], ("en", "de"), "ner"),
        (["base", "ner", "other"], ("de", "fr", "en"), "other"),  # tuned on all three is none
        (["ner", "base"], ("fr", "en"), "ner"),
        (["base"], ("fr", "en"), "base"),
    ):
        some = study.model_copy(update={"checkpoints": {name: given[name] for name in checkpoints}})
        assert overview.checkpoint_of(some, *languages) == expected
