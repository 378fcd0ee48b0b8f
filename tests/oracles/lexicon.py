"""Moses' lexical tables as plain loops over texts, its NULL included."""

from collections import Counter
from collections.abc import Sequence

Row = tuple[str, str, int, int]
"""Target, source, links between them, and links of the source, those to NULL included."""


def moses_rows(
    source: Sequence[Sequence[str]], target: Sequence[Sequence[str]], links: Sequence[Sequence[tuple[int, int]]]
) -> list[Row]:
    """The rows of lex.counts.f2e, where f is the source, in any order."""
    count: Counter[tuple[str, str]] = Counter()
    total: Counter[str] = Counter()
    for source_words, target_words, pairs in zip(source, target, links, strict=True):
        for i, j in pairs:
            count[target_words[j], source_words[i]] += 1
            total[source_words[i]] += 1
        for i, word in enumerate(source_words):
            if i not in {i for i, _ in pairs}:
                count["NULL", word] += 1
                total[word] += 1
        for j, word in enumerate(target_words):
            if j not in {j for _, j in pairs}:
                count[word, "NULL"] += 1
                total["NULL"] += 1
    return [(t, s, n, total[s]) for (t, s), n in count.items()]
