"""Clouds of words: sizes, scripts, fonts and titles."""

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from jobs import overview
from jobs.clouds import SHARED, Cloud, cloud_figure, families, letters


def test_clouds__shape_arabic_and_find_fonts(tmp_path: Path) -> None:
    words = {"القط": 5, "البيت": 3, "cat": 4, "$5": 1}
    cloud = Cloud("mixed", words, {"القط": "ar", "البيت": "ar", "cat": "en", "$5": "en"})
    assert families(letters(words)) == (["DejaVu Sans"], frozenset())
    figure = cloud_figure([cloud, cloud], "title")
    drawn = {text.get_text(): text for text in figure.axes[0].texts}
    assert set(drawn) == {"القط", "البيت", "cat", r"\$5"}
    assert drawn["القط"].get_fontsize() > drawn["البيت"].get_fontsize()
    figure.savefig(tmp_path / "a.png")
    assert no_overlap(list(drawn.values()))
    # shaped: joined letters are narrower than letters one by one
    alone, joined = (figure.text(0, 0, text) for text in ("ا ل ق ط".replace(" ", "\u200c"), "القط"))
    assert joined.get_window_extent().width < alone.get_window_extent().width


@pytest.mark.parametrize("count", [1, 2, 3])
def test_clouds__titles_lie_apart_and_words_can_be_read(count: int) -> None:
    words = {f"Donaudampfschifffahrtsgesellschaft{number}": 90 - number for number in range(60)}
    cloud = Cloud("de: 60 types", words, dict.fromkeys(words, "de"))
    figure = cloud_figure([cloud] * count, "a title")
    FigureCanvasAgg(figure).draw()
    (title,) = (text for text in figure.texts if text.get_text() == "a title")
    assert no_overlap([title, *(axes.title for axes in figure.axes if axes.get_title())])
    for axes in figure.axes[:count]:
        sizes = [text.get_fontsize() for text in axes.texts]
        assert min(sizes) >= 5
        assert 5 < len(sizes) < 40  # the most frequent ones, as many as there is room for
        assert axes.texts[0].get_text().endswith("chaft0")
        box = axes.get_window_extent()
        extents = [text.get_window_extent() for text in axes.texts]
        assert all(box.x0 <= one.x0 and one.x1 <= box.x1 and box.y0 <= one.y0 + 1 for one in extents)


def test_clouds__words_of_several_languages_are_none_s_own() -> None:
    words = ["Anna"] * 10 + ["Haus"] * 4 + ["in"] * 21
    languages = ["de"] * 5 + ["en"] * 5 + ["de"] * 4 + ["en"] * 20 + ["de"]
    cloud = Cloud.mixed("", words, languages)
    assert dict(cloud.words) == {"Anna": 10, "Haus": 4, "in": 21}
    assert dict(cloud.languages) == {"Anna": SHARED, "Haus": "de", "in": "en"}
    figure = cloud_figure([cloud])
    shown = dict(
        zip((text.get_text() for text in figure.legends[0].get_texts()), figure.legends[0].get_lines(), strict=True)
    )
    assert {*shown} == {"de", "en", SHARED}
    for text in figure.axes[0].texts:
        assert text.get_color() == shown[cloud.languages[text.get_text()]].get_color()
    (only,) = cloud_figure([Cloud.mixed("", words[:10], languages[:10])]).axes[0].texts
    assert only.get_text() == "Anna"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["بيت", "٢٠٢٠", "لا"], ["لا", "٢٠٢٠", "بيت"]),
        (["٢٠٢٠", "بيت"], ["بيت", "٢٠٢٠"]),
        (["cat", "2020", "dog"], ["cat", "2020", "dog"]),
        (["cat", "بيت", "لا", "dog"], ["cat", "لا", "بيت", "dog"]),
        (["(بيت)", "لا"], ["لا", "(بيت)"]),
        ([".", "!"], [".", "!"]),
    ],
)
def test_clouds__rows_run_as_their_words_do(words: list[str], expected: list[str]) -> None:
    cloud = Cloud("", {word: 9 - rank for rank, word in enumerate(words)}, dict.fromkeys(words, "ar"))
    (axes,) = cloud_figure([cloud]).axes
    assert len({round(text.get_position()[1], 2) for text in axes.texts}) <= len(words)
    drawn = sorted(axes.texts, key=lambda text: text.get_position()[0])
    assert [text.get_text() for text in drawn] == expected


def test_titles__are_cut_to_the_width_of_their_panel() -> None:
    words = {"cat": 2, "dog": 1}
    long = "occupations that end in -er, names of trades and of those who sell $5 of what they make"
    clouds = [Cloud(title, words, dict.fromkeys(words, "en")) for title in (f"en: {long}", "en: 2 types", long * 9, "")]
    for figure in (cloud_figure(clouds, long * 3), overview.drawn([*clouds, clouds[0]], [])):
        FigureCanvasAgg(figure).draw()
        for axes, cloud in zip(figure.axes, clouds, strict=False):
            box, extent = axes.get_window_extent(), axes.title.get_window_extent()
            assert extent.width <= box.width
            found = axes.title.get_text().replace(r"\$", "$")
            assert found == cloud.title or (found.endswith("…") and cloud.title.startswith(found[:-1]))
            assert cloud.title.startswith("en: 2") == (found == "en: 2 types")
            if found != cloud.title:  # as many letters as fit
                axes.title.set_text(cloud.title[: len(found) + 2].replace("$", r"\$") + "…")
                assert axes.title.get_window_extent().width > 0.97 * box.width
        for title in figure.texts:
            assert title.get_text().endswith("…")
            assert 0.9 * figure.bbox.width < title.get_window_extent().width <= figure.bbox.width


def no_overlap(texts: list[Text]) -> bool:
    boxes = [text.get_window_extent() for text in texts]
    return not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
