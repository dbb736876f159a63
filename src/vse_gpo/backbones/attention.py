"""Attention of Hugging Face networks that takes a mask as it is given.

Before it attends, transformers reads a mask back to drop it if nothing is padding. From a GPU this is a wait, in each
step. The check is left out here by what transformers provides for other kinds of attention: a name for it.
"""

from typing import Any

from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

AS_GIVEN = "sdpa_as_given"  # "sdpa" keeps torch's kernels allowed


def take_masks_as_given(network: PreTrainedModel) -> None:
    """Let a network whose attention is torch's use its mask without reading it; one with its own attention is left.

    Args:
        network: changed in place; what is saved of it stays the same.
    """
    if network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(AS_GIVEN)


def _mask(
    *,
    attention_mask: Tensor | None,
    allow_is_causal_skip: bool,
    allow_is_bidirectional_skip: bool = False,
    **shape: Any,
) -> Tensor | None:
    """A mask (B, 1, N, N), True where an item is seen; None only if none is given, which needs no reading."""
    absent = attention_mask is None
    mask: Tensor | None = sdpa_mask(
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip and absent,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip and absent,
        **shape,
    )
    return mask


AttentionInterface.register(AS_GIVEN, sdpa_attention_forward)
AttentionMaskInterface.register(AS_GIVEN, _mask)
