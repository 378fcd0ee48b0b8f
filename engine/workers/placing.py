"""Which held parts are done together, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from schemas.task import Key

_TOGETHER, PARTS = 64, 4
"""Groups of a step at most, and parts, for a step gives a result of each."""

Group = tuple[Key, ...]
"""Keys that are held together."""

Step = tuple[Group, ...]
"""Groups that are done together."""


def shared_out(lying: Mapping[Group, Sequence[str]], workers: Sequence[str]) -> dict[Group, str]:
    """Workers of groups that lie at some: there, but for those beyond a worker's share, as when others came later.

    Examples
    --------
    >>> a, b, c, d = [(Key("s", ("a",), start),) for start in range(4)]
    >>> shared_out({a: ["one", "two"], b: ["one"], c: ["one"], d: ["one"]}, ["one", "two"]) == {
    ...     a: "two", b: "one", c: "one", d: "two"
    ... }
    True
    """
    share, taken = -(-len(lying) // max(1, len(workers))), Counter[str]()
    found = {}
    for group, places in sorted(lying.items(), key=lambda one: len(one[1])):
        if room := [(taken[place], place) for place in places if taken[place] < share]:
            found[group] = min(room)[1]  # the same one every time
            taken[found[group]] += 1
    room_left = (worker for worker in workers for _ in range(share - taken[worker]))
    return {group: found.get(group) or next(room_left, places[0]) for group, places in lying.items()}


def most_together(groups: int, workers: int) -> int:
    """Groups of a step at most, of so many on so many workers: one step a worker, for each costs milliseconds here.

    Examples
    --------
    >>> most_together(48, 2), most_together(100, 16), most_together(13 * 61, 2), most_together(13 * 61, 512)
    (24, 7, 64, 2)
    """
    return min(_TOGETHER, -(-groups // workers))


def grouped(groups: Sequence[Group], places: Mapping[Group, str], most: int) -> list[Step]:
    """Groups that are one step each: some of one place, at most so many of few parts; one that has no place yet.

    Examples
    --------
    >>> a, b, c, d = [(Key("s", (part,), 0),) for part in "abcd"]
    >>> grouped([a, b, c, d], {a: "one", b: "other", d: "one"}, 2) == [(a, d), (b,), (c,)]
    True
    """
    of_place: dict[str | int, list[list[Group]]] = {}
    for number, group in enumerate(groups):
        steps = of_place.setdefault(places.get(group, number), [[]])
        parts = {one[0].part for one in steps[-1]} | {group[0].part}
        if len(steps[-1]) == most or len(parts) > PARTS:
            steps.append([])
        steps[-1].append(group)
    turns = zip_longest(*of_place.values())  # first some of every place, then the next
    return [tuple(step) for turn in turns for step in turn if step]
