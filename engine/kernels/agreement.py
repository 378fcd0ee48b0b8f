"""Agreement of word links with gold links: precision, recall and alignment error rate."""

from collections.abc import Set
from dataclasses import dataclass

Link = tuple[int, int]
"""Positions of a source and a target word in their sentences."""


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class Agreement:
    """Counts of links over some sentences; those of several texts add up (Och & Ney 2003, Section 6.1).

    A are the links found, S the sure gold links, P the possible ones, of which every sure one is one.
    """

    links: int = 0
    """|A|."""
    sure: int = 0
    """|S|."""
    possible: int = 0
    """|P|."""
    found_sure: int = 0
    """|A ∩ S|."""
    found_possible: int = 0
    """|A ∩ P|."""

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.links + other.links,
            self.sure + other.sure,
            self.possible + other.possible,
            self.found_sure + other.found_sure,
            self.found_possible + other.found_possible,
        )

    @property
    def precision(self) -> float:
        """|A ∩ P| / |A|, a fraction in [0, 1]; NaN without links."""
        return _share(self.found_possible, self.links)

    @property
    def recall(self) -> float:
        """|A ∩ S| / |S|, a fraction in [0, 1]; NaN without sure gold links."""
        return _share(self.found_sure, self.sure)

    @property
    def error_rate(self) -> float:
        """Alignment error rate 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|), a fraction in [0, 1]; NaN without any link."""
        return 1 - _share(self.found_sure + self.found_possible, self.links + self.sure)


def agreement(links: Set[Link], sure: Set[Link], possible: Set[Link]) -> Agreement:
    """Compare the links of one sentence with gold links.

    Parameters
    ----------
    possible
        Gold links that are not sure; sure ones may be among them.

    Examples
    --------
    >>> found = agreement({(0, 0), (1, 1), (2, 1)}, {(0, 0), (1, 2)}, {(1, 1)})
    >>> found.precision, found.recall, found.error_rate
    (0.6666666666666666, 0.5, 0.4)
    """
    either = sure | possible
    return Agreement(len(links), len(sure), len(either), len(links & sure), len(links & either))
