from itertools import pairwise

import numpy as np

from vse_gpo.data.orders import Turns

BOUNDS = np.array([0, 4, 4, 9, 15, 16])  # a shard without a pair among them


def test_shards_take_turns_and_every_pair_comes_once():
    turns = Turns(BOUNDS, at_once=2)
    order = turns.order(np.random.default_rng(0))
    assert sorted(order) == list(range(16))
    shards = np.searchsorted(BOUNDS, order, side="right")
    first = {shard: np.flatnonzero(shards == shard).min() for shard in shards}
    last = {shard: np.flatnonzero(shards == shard).max() for shard in shards}
    for place in range(16):  # only two shards are in use at any place
        assert sum(first[shard] <= place <= last[shard] for shard in first) <= 2
    assert any(abs(a - b) > 1 for a, b in pairwise(shards))  # and they are mixed
    assert not np.array_equal(order, turns.order(np.random.default_rng(1)))
    assert str(turns) == "pairs are drawn from 2 of 5 shards at a time"


def test_the_first_pairs_keep_their_shards():
    head = Turns(BOUNDS, at_once=1).head(6)
    assert sorted(head.order(np.random.default_rng(0))) == list(range(6))
    assert list(head.bounds) == [0, 4, 6]
