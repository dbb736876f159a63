"""Rows of the tables at the end of a training. What a whole run prints and writes is tested with the run."""

import numpy as np

from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import recall_outcome
from vse_gpo.training.ending import rows_of_test


def test_every_tested_model_has_a_row_in_each_protocol():
    ranks = Ranks(np.array([0, 2, 4, 1]), np.array([0, 3, 1, 1]))
    outcome = recall_outcome(ranks, np.arange(4))
    rows = rows_of_test({"": {"all": outcome, "other": outcome}, "ema/": {"all": outcome}}, 4, "f8k", 0)
    assert [(row.source, row.protocol) for row in rows] == [("f8k", "all"), ("f8k", "other"), ("ema", "all")]
    low, high = rows[0].intervals["rsum"]
    assert low <= rows[0].metrics["rsum"] <= high
