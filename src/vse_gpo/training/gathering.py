"""What all processes of a training step have encoded, with gradients; DDP's mean over processes then is exact."""

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import pad

from vse_gpo.batch import EncoderOutput, Features, hand_over


def rows_of_all(rows: Shaped[Tensor, "batch ..."], processes: int) -> Shaped[Tensor, "all ..."]:
    """Rows of all processes, equally many of each.

    Args:
        rows: those of this process.
        processes: of the training.
    """
    return rows if processes == 1 else torch.cat(all_gather(rows))


def outputs_of_all(own: EncoderOutput, processes: int) -> EncoderOutput:
    """Embeddings and sets of all processes; sets are padded to the widest of any process.

    Args:
        own: those of this process; equally many in each.
        processes: of the training.
    """
    if processes == 1:
        return own
    items = None
    if own.items is not None:
        values, lengths = own.items
        width = values.shape[1]
        widest = int(rows_of_all(torch.tensor([width], device=values.device), processes).max())
        values = rows_of_all(pad(values, (0, 0, 0, widest - width)), processes)
        items = Features(values, rows_of_all(hand_over(lengths, values.device), processes).cpu())
    return EncoderOutput(rows_of_all(own.embeddings, processes), items)
