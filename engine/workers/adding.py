"""Results of many steps, added up on the workers a few at a time: one process that adds up all is their limit."""

from collections.abc import Callable
from typing import Any

TOGETHER = 4
"""Results that are added up in one go. All are in memory at once, within what a pass may take beside its parts
(`engine.parts.MODEL_COPIES`)."""

HERE = 8
"""Results that the driver adds up itself: the last ones come in while others are made, and take no further step."""


class Tree:
    """Adds up results as they come, however many: the depth of their sums, and what is held, grows as a logarithm.

    Examples
    --------
    >>> tree = Tree(sum)
    >>> for number in range(22):
    ...     tree.put(number)
    >>> tree.left  # the sum of 16, of four, and two that are left
    [120, 70, 20, 21]
    """

    def __init__(self, add: Callable[[list[Any]], Any]) -> None:
        self._add = add
        self._levels: list[list[Any]] = []

    def put(self, result: Any, level: int = 0) -> None:
        """Take a result, and add up those of its level if they are enough."""
        if level == len(self._levels):
            self._levels.append([])
        self._levels[level].append(result)
        if len(self._levels[level]) == TOGETHER:
            some, self._levels[level] = self._levels[level], []
            self.put(self._add(some), level + 1)

    @property
    def left(self) -> list[Any]:
        """Sums and results that are not added up, those of most results first."""
        return [result for level in reversed(self._levels) for result in level]


def merge(
    total: dict[tuple[str, ...], Any], results: dict[tuple[str, ...], Any], combine: Callable[[Any, Any], Any]
) -> None:
    """Add results of each part to those so far."""
    for part, result in results.items():
        total[part] = combine(total[part], result) if part in total else result
