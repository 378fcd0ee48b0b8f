"""Sections 2.2, 2.3 and 3.3 of the paper and Moses' lexical rule as plain loops, with exact fractions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

Dictionary = Mapping[int, Sequence[int]]
"""Translations of each source type, best first."""


def exact(fraction: float) -> Fraction:
    """The decimal that a person wrote: 0.3 is 3/10."""
    return Fraction(str(fraction))


def concepts_of(labels: Sequence[int], types: Sequence[int], k: int) -> list[set[int]]:
    """Set of types of each concept; tokens labelled -1 are in none."""
    return [{t for label, t in zip(labels, types, strict=True) if label == concept} for concept in range(k)]


def aligned_types(source: set[int], target: set[int], dictionary: Dictionary, n_best: int) -> int:
    """A_Cs of Section 2.2: types of the source concept with an N-best translation in the target concept."""
    found = 0
    for source_type in source:
        shared = 0
        for target_type in dictionary.get(source_type, ())[:n_best]:
            if target_type in target:
                shared += 1
        if shared > 0:
            found += 1
    return found


def is_aligned(
    source: set[int],
    target: set[int],
    dictionary: Dictionary,
    n_best: int,
    theta_align: float,
    min_types: int,
    max_size_gap: float,
) -> bool:
    """Λ of Section 2.2, among the concepts that Section 3.3 considers."""
    if len(source) <= min_types or len(target) <= min_types:
        return False
    larger = max(len(source), len(target))
    if larger == 0:
        return True
    if Fraction(abs(len(source) - len(target)), larger) > exact(max_size_gap):
        return False
    part = aligned_types(source, target, dictionary, n_best)
    return part >= exact(theta_align) * len(source)


def calign(
    source: Sequence[set[int]],
    target: Sequence[set[int]],
    dictionary: Dictionary,
    n_best: int = 10,
    theta_align: float = 0.8,
    min_types: int = 5,
    max_size_gap: float = 0.4,
) -> dict[str, float]:
    """CALIGN of one layer and its parts."""
    rule = (dictionary, n_best, theta_align, min_types, max_size_gap)
    pairs = [(i, j) for i, s in enumerate(source) for j, t in enumerate(target) if is_aligned(s, t, *rule)]
    held = sum(1 for s in source if s)
    aligned = len({i for i, _ in pairs})
    hubs = Counter(j for _, j in pairs)
    return {
        "calign": aligned / held if held else 0.0,
        "aligned_concepts": aligned,
        "concepts": held,
        "considered_concepts": sum(1 for s in source if len(s) > min_types),
        "matched_targets": len(hubs),
        "largest_hub": max(hubs.values(), default=0),
    }


def language_count(
    labels: Sequence[int], types: Sequence[int], languages: Sequence[int], k: int, n_languages: int
) -> list[list[list[int]]]:
    """|C ∩ L_i| of each concept and language, in tokens and in types."""
    counts = []
    for concept in range(k):
        row = []
        for language in range(n_languages):
            held = [
                t for label, t, of in zip(labels, types, languages, strict=True) if label == concept and of == language
            ]
            row.append([len(held), len(set(held))])
        counts.append(row)
    return counts


def colap(counts: Sequence[Sequence[int]], theta_overlap: float = 0.3) -> dict[str, float]:
    """COLAP of one layer from |C ∩ L_i| of one unit."""
    overlapping = held = 0
    for row in counts:
        size = sum(row)
        if size == 0:
            continue
        held += 1
        if sum(1 for part in row if Fraction(part, size) >= exact(theta_overlap)) >= 2:
            overlapping += 1
    return {"colap": overlapping / held if held else 0.0, "overlapping_concepts": overlapping, "concepts": held}


def lexical_table(
    links: Sequence[tuple[int, int]], source_tokens: Sequence[int], type_of: Sequence[int], form_of: Sequence[str]
) -> list[tuple[int, int, float, int, int]]:
    """Moses' rule: (source type, target type, probability, count, rank) of every pair of types with a link.

    Every link adds one to the pair and to the total of its source type; a source token without a link adds one to the
    total of its type, as its link to NULL does in Moses.
    """
    count: Counter[tuple[int, int]] = Counter()
    total: Counter[int] = Counter()
    for source, target in links:
        count[type_of[source], type_of[target]] += 1
        total[type_of[source]] += 1
    linked = {source for source, _ in links}
    for token in source_tokens:
        if token not in linked:
            total[type_of[token]] += 1
    rows = []
    for source_type in sorted({s for s, _ in count}):
        found = [(t, n) for (s, t), n in count.items() if s == source_type]
        found.sort(key=lambda row: (-Fraction(row[1], total[source_type]), -row[1], form_of[row[0]]))
        rows += [(source_type, t, n / total[source_type], n, rank) for rank, (t, n) in enumerate(found)]
    return rows
