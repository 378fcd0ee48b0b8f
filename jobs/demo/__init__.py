"""The demo: a parallel text of our own, two small checkpoints trained on it, and the study of both."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from engine import paths
from engine.model.recipes import Recipe, TuningRecipe
from engine.sentences import read_sentences
from schemas.study import digest

LANGUAGES = ("en", "de", "fr", "es", "ar")


def prepare(directory: str, tell: Callable[[str], None] = lambda _: None) -> str:
    """Lay out the demo's text, checkpoints and study file; what is there already is kept.

    Parameters
    ----------
    directory
        Local folder; receives text/, models/ and study.yaml.
    tell
        Told what goes on.

    Returns
    -------
    Path of the study file.
    """
    from engine.model.train import pretrain, tune  # noqa: PLC0415  (torch and transformers: seconds)

    here = resources.files("jobs.demo")
    root = Path(directory)
    for name in (*(f"{language}.txt" for language in LANGUAGES), "study.yaml"):
        target = root / (name if name == "study.yaml" else f"text/{name}")
        if not target.exists():
            paths.write_text(str(target), here.joinpath(name).read_text(encoding="utf-8"))
    texts = {language: list(read_sentences(str(root / f"text/{language}.txt"), "regex")) for language in LANGUAGES}
    recipes = Recipe(), TuningRecipe()
    made = digest(texts, *map(asdict, recipes))
    marker = root / "models" / "made-from.txt"  # written last: the checkpoints are whole when it names this text
    base, tuned = str(root / "models" / "base"), str(root / "models" / "de-en")
    whole = all((Path(model) / "config.json").exists() for model in (base, tuned))
    if not whole or paths.read_text(str(marker)) != made:
        shutil.rmtree(root / "study", ignore_errors=True)  # of other checkpoints
        tell(f"training the base encoder on {sum(map(len, texts.values())):,} sentences in {len(texts)} languages")
        losses = pretrain(texts, base, recipes[0])
        tell(f"  masked-word loss {losses[0]:.2f} → {losses[-1]:.2f} in {len(losses)} steps")
        tell("tuning it on German–English; French, Spanish and Arabic stay zero-shot")
        losses = tune(base, texts["de"], texts["en"], tuned, recipes[1])
        tell(f"  loss {losses[0]:.2f} → {losses[-1]:.2f} in {len(losses)} steps")
        paths.write_text(str(marker), made)
    return str(root / "study.yaml")
