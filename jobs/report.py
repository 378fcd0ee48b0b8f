"""The command `colign report`: every figure and table of the paper that a study's data allow, and its claims."""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated

import matplotlib.style
import numpy as np
import typer
import xarray as xr
from matplotlib.figure import Figure
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from engine import colap, paths, results, store
from engine.concepts import chosen_concepts
from jobs import files, label_files
from jobs.arguments import Json, Out, StudyPath
from jobs.claims import Claim, claims
from jobs.clouds import Cloud, cloud_figure, without_font
from jobs.derive import are_current
from jobs.explore import write_explorer
from jobs.figures import STYLE, calign_figure, colap_figure
from jobs.label_files import Concept
from jobs.layout import Layout
from jobs.overview import before_and_after, checkpoint_of, overview_figure
from jobs.panels import ALIGNED, NUMBERS, properties_figure, studied_layers, sweep_figure, uncertainty_figure
from jobs.progress import err, out, print_json
from jobs.selections import concepts_name, selections
from jobs.show import aligned_pairs
from jobs.sides import check_known
from jobs.tables import FORMS, Table, tables
from schemas.concepts import CONCEPTS
from schemas.counts import LANGUAGE_COUNT
from schemas.errors import InputError
from schemas.study import Study

_FORMATS = {"pdf": {"metadata": {"CreationDate": None}}, "png": {"dpi": 200}}
"""How each format of a figure is saved: vector and pixels; without its date a PDF is the same bytes every time."""

_CLOUDS = 4
"""Clouds of each kind."""

Drawn = tuple[str, str, Callable[[], Figure]]
"""Name of a figure, its caption, and what draws it."""


def write_report(
    study: StudyPath,
    to: Annotated[
        str | None, typer.Option("--to", help="Folder to write (default: report in the study directory).")
    ] = None,
    cloud: Annotated[
        list[str] | None,
        typer.Option(
            help="Concept to draw, as CHECKPOINT/STACK/SELECTION/LAYER/NUMBER, or two side by side, ONE=OTHER; may be "
            "given again."
        ),
    ] = None,
    out_dir: Out = None,
    as_json: Json = False,
) -> None:
    """Write the figures (PDF, PNG), tables (Markdown, CSV, LaTeX) and explorer (a page) of a study; judge claims."""
    loaded, layout = files.load_study(study, out_dir)
    if not are_current(loaded, layout):
        raise InputError(f"{layout.root}: has no results of this study yet; run colign run {study}, then this again")
    folder = to or f"{layout.root}/report"
    tree = results.load(layout.results)
    drawn = [*_chosen(cloud or (), loaded, layout), *figures(tree, loaded, layout)]
    judged = claims(tree, loaded)
    written: list[str] = []
    boxes: set[str] = set()
    lines = [f"# {layout.root.rpartition('/')[2]}\n"]
    lines += _claims(judged)
    lines.append("\n## Tables\n")
    for table in tables(tree, loaded, layout):
        written += _write_table(table, folder)
        lines.append(table.markdown())
    lines.append("\n## Figures\n")
    for name, caption, draw in drawn:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # told in one line at the end
            figure = draw()
            written += _write_figure(name, figure, folder)
        boxes |= without_font(figure)
        lines.append(f"![{caption}](figures/{name}.png)\n\n{caption}\n")
    lines.append("The explorer, where thresholds can be moved and concepts read: [explorer](explorer/index.html)\n")
    with Progress("explorer", MofNCompleteColumn(), TimeElapsedColumn(), console=err, transient=True) as shown:
        task = shown.add_task("", total=None)
        for path in write_explorer(loaded, layout, tree, paths.join(folder, "explorer")):
            written.append(path)
            shown.advance(task)
    page = paths.join(folder, "report.md")
    paths.write_text(page, "\n".join(lines))
    if boxes:
        some = "".join(sorted(boxes)[:20])
        err.print(
            f"warning: drawn as boxes, since no installed font has them: {some} ({len(boxes)} in all); install a "
            "font of their script, such as one of Noto's, and write the report again",
            soft_wrap=True,
            highlight=False,
        )
    if as_json:
        print_json({"report": page, "files": written, "claims": [vars(claim) for claim in judged]})
        return
    for claim in judged:
        out.print(f"{claim.verdict}: {claim.words}", soft_wrap=True)
    out.print(f"report   {page}", soft_wrap=True, highlight=False)
    out.print(f"{len(written)} files in {folder}", soft_wrap=True, highlight=False)


def _claims(found: list[Claim]) -> Iterator[str]:
    yield "## What the paper says, and this study\n"
    yield "| claim | this study | criterion | numbers |\n| --- | --- | --- | --- |"
    for claim in found:
        cells = (claim.words, f"**{claim.verdict}**", claim.criterion, claim.found)
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _write_table(table: Table, folder: str) -> list[str]:
    written = []
    for ending, form in FORMS.items():
        path = paths.join(folder, "tables", f"{table.name}.{ending}")
        paths.write_text(path, getattr(table, form)())
        written.append(path)
    return written


def _write_figure(name: str, figure: Figure, folder: str) -> list[str]:
    written = []
    for suffix, options in _FORMATS.items():
        content = io.BytesIO()
        with matplotlib.style.context({**STYLE, "pdf.fonttype": 42}, after_reset=True):
            figure.savefig(content, format=suffix, **options)  # type: ignore[arg-type]
        path = paths.join(folder, "figures", f"{name}.{suffix}")
        paths.write_bytes(path, content.getvalue())
        written.append(path)
    return written


def figures(tree: xr.DataTree, study: Study, layout: Layout) -> Iterator[Drawn]:
    """Every figure that the results allow."""
    yield "calign", "CALIGN by layer (Figures 2, 4, 5, 11 to 13)", partial(calign_figure, tree, study)
    yield "colap", "COLAP by layer (Figures 7, 8, 24, 25)", partial(colap_figure, tree, study)
    calign = tree["calign"].to_dataset()
    plain = [name for name, checkpoint in study.checkpoints.items() if not checkpoint.tuned_on]
    tuned = [name for name, checkpoint in study.checkpoints.items() if checkpoint.tuned_on]
    for name in tuned if len(tuned) > 1 else ():
        part = xr.DataTree.from_dict({"/calign": calign.sel(checkpoint=[*plain, name])})
        caption = f"CALIGN of {name} beside what was not tuned, for every pair (Figures 4, 21 to 23)"
        yield f"calign-{name}", caption, partial(calign_figure, part, study)
    compared = before_and_after(study)
    for number, stack in enumerate(study.activations.stacks):
        of, behind = (f", {stack}", f"-{stack}") if number else ("", "")
        caption = f"A concept of {compared[-1]}{of} and those it is aligned to, above mixed text (Figure 1)"
        yield f"overview{behind}", caption, partial(overview_figure, calign.calign, study, layout, compared, stack)
        for pair in study.pairs:
            checkpoint = checkpoint_of(study, *pair)
            of_pair = f"{_with_state(study, checkpoint, pair)}{of}, {' → '.join(pair)}"
            caption = f"Thresholds, {of_pair} (Figure 30)"
            caption += _banded(tree, calign.calign, checkpoint, stack, pair)
            drawn = partial(sweep_figure, tree, study, checkpoint, stack, pair)
            yield f"sweeps-{'-'.join(pair)}{behind}", caption, drawn
            if len(study.concepts.ks) > 1:
                caption = f"Numbers of concepts, {of_pair} (footnote 4)"
                yield f"k-{'-'.join(pair)}{behind}", caption, partial(drawn, NUMBERS)
        for measure in ("calign", "colap") if "uncertainty" in tree else ():
            caption = f"{measure.upper()}{of} with 95 % intervals; thin lines: what nulls reach"
            yield f"{measure}-uncertainty{behind}", caption, partial(uncertainty_figure, tree, study, measure, stack)
        for name in study.checkpoints if "properties" in tree else ():
            caption = f"Lexical and semantic concepts of {name}{of} by layer (Figure 9)"
            yield f"properties-{name}{behind}", caption, partial(properties_figure, tree, study, name, stack)
        yield from _clouds(calign.calign, study, layout, stack, behind)
    for stacks in study.alignment_stacks[len(study.activations.stacks) :]:
        yield from _between(tree, study, stacks)


def _between(tree: xr.DataTree, study: Study, stacks: str) -> Iterator[Drawn]:
    """CALIGN of concepts of one stack into those of another, in its thresholds and intervals."""
    calign = tree["calign"].to_dataset().calign
    for pair in study.pairs:
        checkpoint = checkpoint_of(study, *pair)
        caption = f"Thresholds, {_with_state(study, checkpoint, pair)}, {stacks}, {' → '.join(pair)} (Figure 30)"
        caption += _banded(tree, calign, checkpoint, stacks, pair)
        drawn = partial(sweep_figure, tree, study, checkpoint, stacks, pair, ALIGNED)
        yield f"sweeps-{'-'.join(pair)}-{stacks}", caption, drawn
    if "uncertainty" in tree:
        caption = f"CALIGN, {stacks}, with 95 % intervals; thin lines: what nulls reach"
        yield f"calign-uncertainty-{stacks}", caption, partial(uncertainty_figure, tree, study, "calign", stacks)


def _banded(tree: xr.DataTree, calign: xr.DataArray, checkpoint: str, stack: str, pair: tuple[str, str]) -> str:
    """What the bands of a figure of thresholds are; nothing where there are none."""
    layers = studied_layers(calign, checkpoint, stack, pair) if "uncertainty" in tree else []
    return f"; band: 95 % interval of the highest layer, {layers[-1]}; grey: what its null reaches" if layers else ""


def _with_state(study: Study, checkpoint: str, languages: Sequence[str]) -> str:
    """Name of a checkpoint, and whether it was tuned on some languages."""
    return f"{checkpoint} ({study.fine_tuning(checkpoint, *languages)})"


def _clouds(scores: xr.DataArray, study: Study, layout: Layout, stack: str, behind: str) -> Iterator[Drawn]:
    """Aligned pairs of the lowest and highest layer (Figures 3, 14 to 20), and overlapping concepts (6, 26 to 29)."""
    labels = label_files.read(layout)
    for source, target in study.pairs:
        checkpoint = checkpoint_of(study, source, target)
        layers = studied_layers(scores, checkpoint, stack, (source, target))
        for layer in dict.fromkeys((*layers[:1], *layers[-1:])):
            clouds = []
            every = aligned_pairs(study, layout, checkpoint, stack, layer, source, target, study.concepts.ks[0])
            first = {pair.target_concept: pair for pair in reversed(every)}  # each concept once
            for pair in [pair for pair in every if first[pair.target_concept] is pair][: _CLOUDS // 2]:
                of = (source, target, pair.source_words, pair.source_concept), (
                    target, source, pair.target_words, pair.target_concept
                )  # fmt: skip
                for language, other, words, concept in of:
                    selection = concepts_name(study, language, other)
                    named = label_files.titles(study, layout, labels, checkpoint, stack, selection, layer)
                    title = f"{language}: {named.get(concept, f'{len(words)} types')}"
                    clouds.append(Cloud.ranked(title, words, language))
            if clouds:
                name = f"clouds-aligned-{source}-{target}-{layer}{behind}"
                of_layer = f"layer {layer} of {_with_state(study, checkpoint, (source, target))}"
                caption = f"Aligned concepts of {of_layer}, {source} → {target} (Figures 3, 14 to 20)"
                yield name, caption, partial(cloud_figure, clouds, f"aligned, {of_layer}")
    for languages in study.language_sets:
        group, checkpoint = "+".join(languages), checkpoint_of(study, *languages)
        layer, clouds = _overlapping(study, layout, checkpoint, stack, group)
        if clouds:
            of_layer = f"layer {layer} of {_with_state(study, checkpoint, languages)}"
            caption = f"Overlapping concepts of {of_layer}, {group} (Figures 6, 26 to 29)"
            drawn = partial(cloud_figure, clouds, f"overlapping, {of_layer}")
            yield f"clouds-overlapping-{group}{behind}", caption, drawn


def _overlapping(study: Study, layout: Layout, checkpoint: str, stack: str, group: str) -> tuple[int, list[Cloud]]:
    """The overlapping concepts of most types at the highest layer."""
    k = study.concepts.ks[0]
    counts = store.read(layout.language_count(checkpoint, stack, k, group), LANGUAGE_COUNT).isel(layer=[-1])
    layer = int(counts.layer.values[0])
    overlapping = np.flatnonzero(colap.overlapping(counts, **study.metrics.overlap)[0])
    types = counts.language_count.sel(unit="type").sum("language").values[0]
    wanted = sorted(overlapping.tolist(), key=lambda c: -int(types[c]))[:_CLOUDS]
    return layer, [_cloud(study, layout, Concept(checkpoint, stack, group, layer, concept)) for concept in wanted]


def _cloud(study: Study, layout: Layout, concept: Concept) -> Cloud:
    """The words of a concept, with their languages, and its label, or what they share, where there is one."""
    path = layout.concepts(concept.checkpoint, concept.stack, concept.selection)
    concepts = store.load(path, CONCEPTS)
    layers = [int(layer) for layer in concepts.layer.values]
    if concept.layer not in layers or not 0 <= concept.concept < study.concepts.ks[0]:
        raise InputError(f"{path}: has layers {', '.join(map(str, layers))} and concepts below {study.concepts.ks[0]}")
    with store.undamaged(path):
        names = [str(name) for name in np.atleast_1d(concepts.attrs["languages"])]
        labels = chosen_concepts(concepts, study.concepts.ks[0])[layers.index(concept.layer)]
        rows = np.flatnonzero(labels == concept.concept)
        words, languages = concepts.word.values[rows].tolist(), concepts.language.values[rows].tolist()
    shares = Counter(names[language] for language in languages)
    title = ", ".join(f"{name} {count / len(rows):.0%}" for name, count in shares.most_common())
    of = concept.checkpoint, concept.stack, concept.selection, concept.layer
    called = label_files.titles(study, layout, label_files.read(layout), *of)
    if concept.concept in called:
        title = f"{called[concept.concept]} ({title})"
    return Cloud.mixed(title, words, [names[language] for language in languages])


def _chosen(given: Sequence[str], study: Study, layout: Layout) -> Iterator[Drawn]:
    """Clouds of the concepts that were asked for (Figures 10 and 17 to 29)."""
    for text in given:
        clouds = [_cloud(study, layout, _named(one, text, study)) for one in text.split("=")]
        caption = f"Concept{'s' if len(clouds) > 1 else ''} {' and '.join(text.split('='))}"
        yield f"cloud-{text.replace('/', '-')}", caption, partial(cloud_figure, clouds)


def _named(name: str, text: str, study: Study) -> Concept:
    checkpoint, stack, selection, layer, number = (*name.split("/"), "", "", "", "", "")[:5]
    if name.count("/") != 4 or not (layer.isdecimal() and number.isdecimal()):
        raise InputError(
            f"--cloud {text}: expected CHECKPOINT/STACK/SELECTION/LAYER/NUMBER, as base/encoder/de/6/17, or two of "
            "them with = between"
        )
    check_known(
        checkpoint=(checkpoint, [*study.checkpoints]),
        stack=(stack, study.activations.stacks),
        selection=(selection, [*selections(study)]),
    )
    return Concept(checkpoint, stack, selection, int(layer), int(number))
