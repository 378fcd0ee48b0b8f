"""Arithmetic of shards: integers only."""

from collections.abc import Iterator


def shard_ranges(tokens: int, shard: int) -> list[tuple[int, int]]:
    """Half-open ranges of whole shards that hold every token exactly once.

    Examples
    --------
    >>> shard_ranges(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + shard, tokens)) for start in range(0, tokens, shard)]


def blocks(rows: int, size: int) -> Iterator[slice]:
    """Slices that hold every row exactly once, in order.

    Examples
    --------
    >>> list(blocks(3, 2))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
