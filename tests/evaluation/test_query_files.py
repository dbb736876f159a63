"""What every query found, as a file: read again as it was written, or refused in one line."""

import numpy as np
import pytest

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.query_files import QUERIES, Evaluated, read_queries, write_queries
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import recall_outcome


def test_what_is_written_is_read_again(tmp_path):
    ranks = Ranks(np.array([0, 3, 1, 9]), np.array([2, 0, 0, 5, 1, 1]))
    outcome = recall_outcome(ranks, np.array([0, 0, 1, 2, 3, 3]), np.array([0, 0, 1, 1]))
    write_queries(tmp_path / QUERIES, Evaluated(images=4, image_ids=list("abcd"), outcomes={"all": outcome}))
    found = read_queries(tmp_path)
    assert (found.images, found.image_ids) == (4, list("abcd"))
    assert found.outcomes["all"].metrics() == outcome.metrics()
    for ours, again in zip(outcome.queries, found.outcomes["all"].queries, strict=True):
        for name in ("rows", "owners", "ranks", "folds"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(again, name))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_damaged_queries_give_one_line(content, tmp_path):
    (tmp_path / "queries.npz").write_bytes(content)
    with pytest.raises(VSEError, match=r"no evaluation of one model .*expected queries\.npz") as error:
        read_queries(tmp_path)
    assert "\n" not in str(error.value)
