"""Arithmetic of shards: integers only."""


def shard_ranges(tokens: int, shard: int) -> list[tuple[int, int]]:
    """Half-open ranges of whole shards that hold every token exactly once.

    Examples
    --------
    >>> shard_ranges(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + shard, tokens)) for start in range(0, tokens, shard)]
