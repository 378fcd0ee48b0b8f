"""Shards of vectors handed out in groups."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.kernels.shards import shard_ranges
from jobs.vectors import groups
from schemas.task import Key

PARTS = st.lists(st.tuples(st.integers(1, 3000), st.sets(st.integers(0, 400), max_size=20)), min_size=0, max_size=4)


@given(parts=PARTS, shard=st.integers(1, 64), slots=st.integers(1, 9))
def test_groups__hold_every_shard_once(parts: list[tuple[int, set[int]]], shard: int, slots: int) -> None:
    keys = [
        Key("activations", ("base", "encoder", str(part)), start, stop)
        for part, (tokens, done) in enumerate(parts)
        for number, (start, stop) in enumerate(shard_ranges(tokens, shard))
        if number not in done
    ]
    most = min(64, -(-len(keys) // (8 * slots)))
    found = list(groups(keys, slots))
    inside = []
    for group in found:
        held = [key for key in keys if key.part == group.part and group.start <= key.start < group.stop]
        assert held[0].start == group.start
        assert held[-1].stop == group.stop
        assert all(a.stop == b.start for a, b in itertools.pairwise(held))  # contiguous
        assert 1 <= len(held) <= most
        assert group.stage == "activations"
        inside += held
    assert inside == keys
    for a, b in itertools.pairwise(found):  # as large as may be
        size = len([key for key in keys if key.part == a.part and a.start <= key.start < a.stop])
        assert (a.part, a.stop) != (b.part, b.start) or size == most


@given(shards=st.integers(1, 2000), slots=st.integers(1, 8))
def test_groups__every_worker_has_work(shards: int, slots: int) -> None:
    keys = [Key("activations", ("p",), i, i + 1) for i in range(shards)]
    assert len(list(groups(keys, slots))) >= min(shards, 4 * slots)
