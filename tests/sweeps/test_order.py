"""The order of visits: every point once, references in between, the same from the same seed."""

from itertools import islice, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labctl.sweeps import Visit, visits
from labctl.sweeps.order import permutation


@given(st.integers(1, 40), st.integers(0, 7), st.integers(0, 5))
def test_every_point_is_visited_once_and_lies_between_references(n, every, seed):
    order = visits(n, shuffle=True, seed=seed, reference_every=every)
    assert sorted(v.index for v in order if not v.reference) == list(range(n))
    assert order == visits(n, shuffle=True, seed=seed, reference_every=every)
    if every:
        assert order[0] == order[-1] == Visit(-1, reference=True)
        gaps = [i for i, v in enumerate(order) if v.reference]
        assert max(b - a for a, b in pairwise(gaps)) <= every + 1


@given(st.integers(0, 40), st.integers(0, 7), st.booleans())
def test_length_and_positions_agree_with_iteration(n, every, shuffle):
    order = visits(n, shuffle=shuffle, seed=3, reference_every=every)
    assert len(order) == len(list(order)) == n + sum(v.reference for v in order)
    assert [order[i] for i in range(-len(order), 0)] == list(order) == order[:]


def test_points_come_in_order_unless_shuffled():
    assert [v.index for v in visits(5)] == [0, 1, 2, 3, 4]
    assert [v.index for v in visits(5, reference_every=2)] == [-1, 0, 1, -1, 2, 3, -1, 4, -1]
    assert [v.index for v in visits(50, shuffle=True, seed=1)] != list(range(50))


def test_the_order_of_a_seed_is_for_ever():
    """A run that is resumed with another numpy must continue in the order in which it began."""
    assert permutation(10, 7).tolist() == [8, 5, 0, 2, 1, 9, 7, 3, 6, 4]


def test_seeds_of_any_size_are_taken():
    assert sorted(permutation(5, 2**40 + 1)) == sorted(permutation(5, -3)) == [0, 1, 2, 3, 4]


def test_ten_million_shuffled_points_are_not_made_before_they_are_visited():
    order = visits(10_000_000, shuffle=True, seed=5, reference_every=100)
    assert len(order) == 10_100_001
    assert [v.reference for v in islice(order, 3)] == [True, False, False]
    assert np.array_equal(np.bincount(permutation(10_000_000, 5)), np.ones(10_000_000))
