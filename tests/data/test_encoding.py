"""Encoding on one device and on several: the same batches, and what a process tells or does not tell."""

import os
import signal
from operator import itemgetter

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vse_gpo.batch import Features
from vse_gpo.data.encoding import EncodedBatch, Encoding, ReadBatch, encode_items
from vse_gpo.errors import VSEError

CPU = torch.device("cpu")
NUMBERS = 7


class Numbers(Dataset[int]):
    """Rows of a number; one cannot be read, and one may end its process or the whole command."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def __len__(self) -> int:
        return NUMBERS

    def __getitem__(self, row: int) -> int:
        if row == 5 and self.fails == "told":
            raise VSEError("row 5: not there; fetch it again")
        if row == 5 and self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    def collate(self, rows: list[int]) -> ReadBatch:
        read = [row for row in rows if row != 2]
        values = torch.tensor(read, dtype=torch.float32)[:, None, None].expand(-1, 1, 6)
        sets = Features(values, torch.ones(len(read), dtype=torch.long))
        return ReadBatch(sets, torch.tensor(read, dtype=torch.long), {row: "damaged" for row in rows if row == 2})


class Doubled(nn.Module):
    """A layer's output for the only item of each set, twice, behind another result."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, sets: Features) -> tuple[str, Tensor]:
        return "first", 2 * self.layer(sets.values[:, 0])


def encoded(network: nn.Module, fails: str = "", **how: object) -> list[EncodedBatch]:
    settings: dict[str, object] = {"batch_size": 2, "workers": 0, "devices": [CPU]}
    items = Numbers(fails)
    return [*encode_items(network, items, items.collate, Encoding(**settings | how), itemgetter(1))]


def test_two_processes_give_what_one_does_in_order():
    network = Doubled()
    alone, both = (encoded(network, devices=count * [CPU]) for count in (1, 2))
    assert [part.rows.tolist() for part in both] == [[0, 1], [3], [4, 5], [6]]
    assert [part.skipped for part in both] == [{}, {2: "damaged"}, {}, {}]
    for one, other in zip(alone, both, strict=True):
        assert torch.equal(one.embeddings, other.embeddings)
        assert one.rows.tolist() == other.rows.tolist()
    assert not network.training


def test_a_batch_without_a_readable_row_is_not_encoded():
    alone = encoded(Doubled(), batch_size=1)
    assert [len(part.embeddings) for part in alone] == [1, 1, 0, 1, 1, 1, 1]


def test_an_error_of_a_process_is_that_of_the_command():
    with pytest.raises(VSEError, match=r"^row 5: not there; fetch it again$"):
        encoded(Doubled(), "told", devices=[CPU, CPU])


def test_a_lost_process_is_told():
    with pytest.raises(VSEError, match="the process of cpu was lost; if it has told no reason"):
        encoded(Doubled(), "killed", devices=[CPU, CPU])


@pytest.mark.parametrize("precision", ["bf16", 16])
def test_less_precision_is_near_and_comes_in_float32(precision):
    network = Doubled()
    exact, near = (encoded(network, precision=kind) for kind in (32, precision))
    for one, other in zip(exact, near, strict=True):
        assert other.embeddings.dtype == torch.float32
        assert not torch.equal(one.embeddings, other.embeddings)
        torch.testing.assert_close(other.embeddings, one.embeddings, rtol=2e-2, atol=2e-2)


def test_an_unknown_precision_is_refused_before_any_work():
    with pytest.raises(VSEError, match="precision=fp16, expected 32, bf16, 16"):
        Encoding(batch_size=2, workers=0, devices=[CPU], precision="fp16")
