"""CALIGN × COLAP against sets of concepts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.cross import score


@given(st.integers(1, 6), st.integers(0, 2**16))
def test_score__cells_are_sets_of_concepts(k: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    pairs, overlapping, held = draw.random((2, k, k)) < 0.2, draw.random((2, k)) < 0.5, draw.random((2, k)) < 0.8
    found = score(pairs, overlapping, held)
    for layer in range(2):
        concepts = {c for c in range(k) if held[layer, c]}
        aligned = {c for c in concepts if pairs[layer, c].any()}
        over = {c for c in concepts if overlapping[layer, c]}
        assert found["concepts"][layer] == len(concepts)
        assert found["both"][layer] == len(aligned & over)
        assert found["aligned_only"][layer] == len(aligned - over)
        assert found["overlapping_only"][layer] == len(over - aligned)
        assert found["neither"][layer] == len(concepts - aligned - over)
        assert found["aligned_to_itself"][layer] == sum(pairs[layer, c, c] for c in concepts)
        phi = found["phi"][layer]
        if 0 < len(aligned) < len(concepts) and 0 < len(over) < len(concepts):
            table = [[c in aligned, c in over] for c in sorted(concepts)]
            np.testing.assert_allclose(phi, np.corrcoef(np.array(table, float).T)[0, 1], atol=1e-12)
        else:
            assert np.isnan(phi)
