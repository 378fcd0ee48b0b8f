"""Tables of a report: what they hold, and how each form writes them."""

from pathlib import Path

from engine.scores import tabulate
from jobs.files import load_study
from jobs.tables import Table, data_table, score_tables
from schemas.downstream import Downstream
from tests import small_tasks
from tests.small_study import SmallStudy


def test_data_table__of_translations_and_texts(tmp_path: Path) -> None:
    values = small_tasks.translation(tmp_path / "ted", count=4)
    source, target = (Path(path) for path in values["dev"]["de-en"])
    source.write_text("a b a\n\nc\n")
    target.write_text("x y\nz\nx\n")
    values["test"] = {"test11": values["dev"], "test12": values["test"]}
    header, train, *rows = data_table("ted", Downstream.model_validate(values)).rows
    assert header[2:] == ("sentences", "tokens", "types", "target tokens", "target types", "left out")
    assert train[:3] == ("de-en", "train", "4")
    assert rows[0] == ("de-en", "dev", "2", "4", "3", "3", "2", "1")
    assert rows[1] == ("de-en", "test11", *rows[0][2:])
    assert [row[1] for row in rows] == ["dev", "test11", "test12"]
    values = small_tasks.classification(tmp_path / "sst2", count=4)
    Path(values["dev"]["en"]).write_text("sentence\tlabel\na b a\tlate\n")
    _, _, dev, _ = data_table("sst2", Downstream.model_validate(values)).rows
    assert dev == ("en", "dev", "1", "3", "2")


def test_scores__of_classes_have_a_table_of_accuracy_and_one_of_f1(tmp_path: Path) -> None:
    study, _ = load_study(str(SmallStudy(tmp_path / "s", "model").file))
    of = {"checkpoint": "base", "task": "sst2", "split": "dev", "state": "base", "kind": "classification"}
    given = {"en": (0.5, 0.25), "de": (0.75, 0.7)}
    scores = tabulate([
        {**of, "language": lang, "signature": "s", "examples": 4, "accuracy": accuracy, "f1": f1}
        for lang, (accuracy, f1) in given.items()
    ])  # fmt: skip
    study = study.model_copy(update={"downstream": {"sst2": Downstream(kind="classification")}})
    accuracy, f1 = score_tables(scores, study)
    assert (accuracy.name, f1.name) == ("scores-sst2", "scores-sst2-f1")
    assert "Accuracy" in accuracy.caption
    assert "F1" in f1.caption
    of_accuracy, of_f1 = (dict(zip(*table.rows, strict=True)) for table in (accuracy, f1))
    assert (of_accuracy["en"], of_accuracy["de"], of_f1["en"], of_f1["de"]) == ("50.0", "75.0", "25.0", "70.0")


def test_table__is_escaped_in_each_form() -> None:
    table = Table("t", "50 % & more", (("name", "n_1"), ("a|b_c", "2.5"), ("d → e", "")))
    assert table.markdown() == "50 % & more\n\n| name | n_1 |\n| --- | ---: |\n| a\\|b_c | 2.5 |\n| d → e |  |\n"
    assert r"a\textbar{}b\_c & 2.5 \\" in table.latex()
    assert r"50 \% \& more" in table.latex()
    assert r"$\rightarrow$" in table.latex()
    assert "a|b_c,2.5" in table.csv()


def test_table__that_is_longer_than_a_page_breaks() -> None:
    rows = [("name", "n"), *((f"row{number}", str(number)) for number in range(100))]
    text = Table("t", "caption", tuple(rows)).latex()
    assert text.startswith("\\begin{longtable}{lr}\n\\caption{caption}\\label{tab:t} \\\\\n")
    assert text.index("\\endhead") < text.index("row0 & 0") < text.index("row99 & 99") < text.index("\\end{longtable}")
    assert "\\begin{table}" in Table("t", "caption", tuple(rows[:41])).latex()
