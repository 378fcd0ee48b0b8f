"""The command `colign dictionary`: translations counted from linked texts, or carried from one format to another."""

from array import array
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
import xarray as xr
from numpy.typing import NDArray

from engine import paths, store
from engine.exchange.dictionaries import read, write
from engine.exchange.dictionary_files import FORMATS, Format, counts_of, ending
from engine.exchange.link_files import read_pharaoh
from engine.exchange.stream import kind
from engine.lexicon import best, count_words, folded
from engine.sentences import read_sentences
from jobs import files
from jobs.options import is_study
from jobs.outputs import check_place
from jobs.progress import out as printed
from jobs.progress import print_json
from schemas.errors import InputError
from schemas.links import DICTIONARY, Fold
from schemas.parse import parse
from schemas.study import Dictionary

FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Format of DICT (default: by its ending: .txt, .json, .tsv, .f2e, "
                                ".e2f, .zarr; .gz packs it).")
]  # fmt: skip


def make_dictionary(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC TGT LINKS | DICT | STUDY",
            help="Two tokenised texts, a sentence a line, and their links in Pharaoh's form (0-0 1-2); or a dictionary "
            "in any format; or a study with --pair.",
        ),
    ],
    path: Annotated[str, typer.Option("--out", "-o", metavar="DICT", help="Dictionary to write.")],
    form: FormatOption = None,
    read_as: Annotated[
        Format | None, typer.Option("--from", help="Format of a dictionary that is read (default: as it looks).")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Language of SRC (default: source).")] = None,
    target: Annotated[str | None, typer.Option(help="Language of TGT (default: target).")] = None,
    pair: Annotated[str | None, typer.Option(metavar="de-en", help="Of a study: languages, from-to.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Of texts: translate TGT into SRC.")] = False,
    fold: Annotated[
        list[str] | None,
        typer.Option(help="Differences to overlook; may be given again: case, arabic (vowel marks), nfc, nfkc."),
    ] = None,
    n_best: Annotated[int | None, typer.Option(min=1, help="Translations of a word to keep (default: all).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Count a dictionary from linked texts by Moses' lexical rule, or write one in another format.

    p(t | s) is the share of links from s to t among all links of s and its words without a link. Translations are
    ordered by probability, then count, then form. Formats: text and json of the published scripts, moses (lex.f2e with
    lex.counts.f2e), muse, tsv and zarr.
    """
    target_form = form or ending(path)
    if target_form is None:
        raise InputError(f"{path}: its ending does not tell the format; give --format {', '.join(FORMATS)}")
    _check_out(path, target_form, force)
    rules = parse(Dictionary, {"fold": fold or ()}, "options").fold
    if len(given) == 3:
        _only(pair=pair, **{"from": read_as})
        dictionary = _count(given, source or "source", target or "target", rules, reverse=reverse)
    elif len(given) == 1:
        dictionary = _stored(given[0], read_as, source, target, pair, reverse=reverse)
        dictionary = folded(dictionary, rules) if rules else dictionary
    else:
        raise InputError(
            f"{len(given)} files; expected three (a text, its translation and their links), or one (a dictionary, or a "
            "study with --pair)"
        )
    if n_best is not None:
        dictionary = best(dictionary, n_best)
    written = write(dictionary, path, target_form)
    sizes = {name: dictionary.sizes[name] for name in ("entry", "source", "target")}
    languages = {name: dictionary.attrs[name] for name in ("source", "target", "fold")}
    if as_json:
        counts = dict(zip(("entries", "source_types", "target_types"), sizes.values(), strict=True))
        print_json({"format": target_form, **languages, **counts, "files": written})
        return
    printed.print(
        f"{sizes['entry']:,} translations of {sizes['source']:,} words ({languages['source']}) by {sizes['target']:,} "
        f"({languages['target']})",
        soft_wrap=True,
    )
    for file in written:
        printed.print(file, soft_wrap=True, highlight=False)


def _only(**given: str | None) -> None:
    for name, value in given.items():
        if value is not None:
            raise InputError(f"--{name} {value}: texts are counted, and no dictionary or study is read; leave it out")


def _count(given: list[str], source: str, target: str, fold: Sequence[Fold], *, reverse: bool) -> xr.Dataset:
    if source == target:
        raise InputError(f"--source and --target are both {source}; give two languages")
    texts = [_numbered(file) for file in given[:2]]
    (one, one_lengths, one_forms), (other, other_lengths, other_forms) = texts
    if len(one_lengths) != len(other_lengths):
        raise InputError(
            f"{given[0]}: {len(one_lengths)} lines, {given[1]}: {len(other_lengths)}; line i of both must be the same "
            "sentence, so give files of equal length"
        )
    links = read_pharaoh(given[2], one_lengths, other_lengths)
    if reverse:
        sides = (other, one), (links[:, 1], links[:, 0]), (other_forms, one_forms)
        return count_words(*sides, source=target, target=source, rules=fold)
    sides = (one, other), (links[:, 0], links[:, 1]), (one_forms, other_forms)
    return count_words(*sides, source=source, target=target, rules=fold)


def _numbered(path: str) -> tuple[NDArray[np.int32], NDArray[np.int64], list[str]]:
    """Type of each token of a text (token), words of each sentence (sentence), and the spelling of each type."""
    table: dict[str, int] = {}
    types, lengths = array("i"), array("q")
    for sentence in read_sentences(path, "spaces"):
        types.extend([table.setdefault(word, len(table)) for word in sentence])
        lengths.append(len(sentence))
    return np.array(types, np.int32), np.array(lengths, np.int64), [*table]


def _stored(
    path: str, form: Format | None, source: str | None, target: str | None, pair: str | None, *, reverse: bool
) -> xr.Dataset:
    """A dictionary of a file, a store or a study."""
    if reverse:
        raise InputError("--reverse: goes with two texts and their links; a dictionary translates one way only")
    if is_study(path):
        study, layout = files.load_study(path)
        known = [f"{s}-{t}" for s, t in study.directions]
        if pair not in known:
            raise InputError(
                f"{path}: {f'has no pair {pair!r}' if pair else 'is a study'}; choose one of its pairs with --pair: "
                f"{', '.join(known)}"
            )
        one, other = study.directions[known.index(pair)]
        dictionary = store.read(layout.dictionary(one, other), DICTIONARY)
    elif pair is not None:
        raise InputError(f"--pair {pair}: chooses a dictionary of a study, and {path} is none; leave it out")
    else:
        dictionary = read(path, form, source=source or "source", target=target or "target")
    for name, language in (("source", source), ("target", target)):
        if language is not None and language != dictionary.attrs[name]:
            raise InputError(
                f"--{name} {language}: {path} translates {dictionary.attrs['source']} into "
                f"{dictionary.attrs['target']}; leave it out, or give the dictionary of the other direction"
            )
    return dictionary


def _check_out(path: str, form: Format, force: bool) -> None:
    """Refuse to write over what is there, and with --force over anything but dictionaries and files."""
    check_place(path)
    for name in (path, counts_of(path)) if form == "moses" else (path,):
        system, place = paths.filesystem(name)
        if not system.exists(place):
            continue
        if not force:
            raise InputError(f"{name}: is there already; choose another name, or replace it with --force")
        if system.isdir(place) and not (form == "zarr" and kind(name) == DICTIONARY.name):
            raise InputError(
                f"{name}: a folder that is no dictionary, and --force would delete it; choose another name"
            )
