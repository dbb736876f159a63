"""GRUs over sequences of different lengths: packed when they run, step by step when they are exported as a graph."""

from typing import no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vse_gpo.batch import hand_over


def run_gru(
    gru: nn.GRU, sequences: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch items ways d_hidden"]:
    """Hidden states of each direction at every item, forward direction first; undefined past a length.

    In mixed precision too, they are as precise as the GRU's weights: ``autocast`` would run a GRU on a GPU in float16,
    even where it is set to bfloat16 and no loss is scaled, and small gradients would vanish.

    Args:
        gru: a GRU with one layer, batch first.
        sequences: padded sequences.
        lengths: at least 1; those on the CPU do not wait for a GPU.
    """
    if torch.compiler.is_exporting():
        return _step_by_step(gru, sequences, lengths)
    lengths, order = lengths.cpu().sort(descending=True)  # here, as packing would wait for a GPU to sort
    longest_first = sequences.index_select(0, hand_over(order, sequences.device))
    packed = pack_padded_sequence(longest_first.to(next(gru.parameters()).dtype), lengths, batch_first=True)
    with torch.autocast(sequences.device.type, enabled=False):
        outputs, _ = gru(packed)
    states, _ = pad_packed_sequence(outputs, batch_first=True, total_length=sequences.shape[1])
    states = states.index_select(0, hand_over(order.argsort(), sequences.device))
    return states.unflatten(-1, (-1, gru.hidden_size))


def gather_weights(copied: nn.Module) -> None:
    """Gather the weights of each RNN of a copied module; a copy's are scattered, and cuDNN would do it at every call.

    Args:
        copied: changed in place.
    """
    for part in copied.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()


def _step_by_step(
    gru: nn.GRU, sequences: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
) -> Float[Tensor, "batch items ways d_hidden"]:
    """The same as a loop that an exported graph can hold, for any number of items; packing needs the lengths' values.

    The backward direction reads each sequence reversed, so that its padding still comes last.
    """
    turned = (lengths[:, None] - 1 - torch.arange(sequences.shape[1], device=lengths.device)).clamp(min=0)
    states = [_scan(gru, sequences, "l0")]
    if gru.bidirectional:
        states.append(_reorder(_scan(gru, _reorder(sequences, turned), "l0_reverse"), turned))
    return torch.stack(states, dim=2)


def _reorder(
    sequences: Float[Tensor, "batch items dim"], order: Int[Tensor, "batch items"]
) -> Float[Tensor, "batch items dim"]:
    return sequences.gather(1, order[:, :, None].expand(-1, -1, sequences.shape[2]))


def _scan(
    gru: nn.GRU, sequences: Float[Tensor, "batch items dim"], direction: str
) -> Float[Tensor, "batch items d_hidden"]:
    """Hidden states of one direction, from the first item to the last.

    torch exports ``nn.GRU`` as one copy of the step per item of the example; a scan stays a loop.
    """
    from torch._higher_order_ops.scan import scan  # noqa: PLC0415, only an export needs it; it has no public name yet

    weight, hidden_weight, bias, hidden_bias = (
        gru.get_parameter(f"{name}_{direction}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )

    @no_type_check  # the scan traces it; the shape checks of the tests would stop that
    def step(state: Tensor, at_inputs: Tensor) -> tuple[Tensor, Tensor]:
        at_state = torch.nn.functional.linear(state, hidden_weight, hidden_bias)
        reset, update, _ = (at_inputs + at_state).sigmoid().chunk(3, dim=-1)
        candidate = (at_inputs.chunk(3, dim=-1)[2] + reset * at_state.chunk(3, dim=-1)[2]).tanh()
        new = candidate + update * (state - candidate)
        return new, new.clone()  # the two results of a scan must be different tensors

    at_inputs = torch.nn.functional.linear(sequences, weight, bias).transpose(0, 1)
    start = sequences.new_zeros(sequences.shape[0], gru.hidden_size)
    _, states = scan(step, start, at_inputs)
    return states.transpose(0, 1)
