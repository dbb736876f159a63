"""What processes gather; ``test_ddp`` compares the gradients of real trainings with those of one process."""

import torch

from vse_gpo.batch import EncoderOutput, Features
from vse_gpo.training import gathering
from vse_gpo.training.gathering import outputs_of_all, rows_of_all


def test_one_process_has_everything():
    own = EncoderOutput(torch.ones(2, 3), Features(torch.ones(2, 4, 3), torch.tensor([4, 1])))
    assert outputs_of_all(own, 1) is own
    rows = torch.arange(3)
    assert rows_of_all(rows, 1) is rows


def test_sets_are_padded_to_the_widest_of_any_process(monkeypatch):
    """Another process with the same lengths, whose sets are padded to five items."""

    def all_gather(values):
        return [values, torch.tensor([5]) if values.shape == (1,) else -values]

    monkeypatch.setattr(gathering, "all_gather", all_gather)
    own = EncoderOutput(torch.ones(2, 3), Features(torch.ones(2, 4, 3), torch.tensor([4, 1])))
    embeddings, items = outputs_of_all(own, 2)
    assert embeddings[:, 0].tolist() == [1, 1, -1, -1]
    assert items.values.shape == (4, 5, 3)
    assert items.values[:2, :4].eq(1).all()
    assert items.values[:2, 4:].eq(0).all()
    assert items.lengths.tolist() == [4, 1, -4, -1]
