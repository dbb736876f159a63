"""Embeddings, similarities and rows of any program → tensors that are checked; embeddings become unit vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vse_gpo.errors import VSEError, first_line
from vse_gpo.retrieval.similarity import check_directions

Array = npt.NDArray[Any] | Tensor | Sequence[Any]  # of floats in any precision and byte order, or nested lists of them
Index = npt.NDArray[Any] | Tensor | Sequence[Any]  # of integers
Ids = npt.NDArray[Any] | Tensor | Sequence[Any] | None  # of numbers or texts; None where they are not known
ROWS_AT_ONCE = 4096  # scaled in float64
UNIT = 8  # rounding errors by which the norm of a unit vector may differ from 1


def unit_embeddings(
    image_embeddings: Array, caption_embeddings: Array, device: torch.device | None = None
) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "captions dim"]]:
    """Embeddings of any program as unit vectors: float64 stays, any other precision becomes float32.

    Rows of unit length, as far as their precision can tell, stay as they are. The others are divided by their largest
    value and then by their norm, in float64: no norm overflows or vanishes.

    Args:
        image_embeddings: (images, E).
        caption_embeddings: (captions, E).
        device: to put them on; None keeps theirs.

    Raises:
        VSEError: if they are no floats or of other shapes, or if a row is zero or holds NaN or infinity; the message
            names the first such row.
    """
    images = float_tensor(image_embeddings, "image embeddings")
    captions = float_tensor(caption_embeddings, "caption embeddings")
    shapes = tuple(images.shape), tuple(captions.shape)
    if (images.ndim, captions.ndim) != (2, 2) or 0 in images.shape + captions.shape or shapes[0][1] != shapes[1][1]:
        raise VSEError(
            f"image embeddings {shapes[0]} and caption embeddings {shapes[1]}, expected (images, E) and (captions, E) "
            "with the same E, none of them 0"
        )
    return (
        unit_rows(_placed(images, device), "image embedding"),
        unit_rows(_placed(captions, device), "caption embedding"),
    )


def unit_rows(rows: Float[Tensor, "rows dim"], what: str) -> Float[Tensor, "rows dim"]:
    """The rows as unit vectors; see ``unit_embeddings``.

    Args:
        rows: float32 or float64.
        what: a row is, for messages.
    """
    check_directions(what, rows)
    unit = rows
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        exact = rows[part].double()
        other = (exact.norm(dim=1) - 1).abs() > UNIT * torch.finfo(rows.dtype).eps
        if other.any():
            unit = rows.clone() if unit is rows else unit
            scaled = exact[other] / exact[other].abs().amax(1, keepdim=True)
            unit[part][other] = (scaled / scaled.norm(dim=1, keepdim=True)).to(rows.dtype)
    return unit


def float_tensor(values: Array, what: str) -> Float[Tensor, "..."]:
    """Floats of any kind in float64 or float32: longer ones become float64, shorter ones float32.

    Raises:
        VSEError: if they are no floats, or lists of different lengths.
    """
    if not isinstance(values, Tensor):
        array = _array(values, what)
        if array.dtype.kind != "f":
            raise VSEError(f"{what} of {array.dtype}, expected floats")
        with np.errstate(over="ignore"):  # a long double beyond float64 becomes infinity, which is refused
            array = array.astype(np.float32 if array.itemsize < 8 else np.float64, order="C", copy=False)
        values = torch.from_numpy(array if array.flags.writeable else array.copy())
    if not values.is_floating_point():
        raise VSEError(f"{what} of {values.dtype}, expected floats")
    if values.layout != torch.strided or values.is_meta:
        raise VSEError(f"{what} in a sparse tensor or one without values, expected dense ones")
    values = values.detach()
    return values if values.dtype == torch.float64 else values.float()


def read_index(caption_to_image: Index, captions: int) -> npt.NDArray[np.int64]:
    """The row of each caption's image.

    Raises:
        VSEError: if it is not one integer for each caption.
    """
    index = _array(caption_to_image, "caption_to_image")
    if index.dtype.kind not in "iu" or index.shape != (captions,):
        raise VSEError(
            f"caption_to_image has shape {index.shape} of {index.dtype} for {captions} captions, expected the row of "
            "each caption's image"
        )
    return index.astype(np.int64)


def _array(values: Array, what: str) -> npt.NDArray[Any]:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    if np.ma.is_masked(values):
        raise VSEError(f"{what} with masked values, expected all of them")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise VSEError(f"{what}: lists of different lengths ({first_line(error)}), expected equal ones") from error


def _placed(rows: Float[Tensor, "rows dim"], device: torch.device | None) -> Float[Tensor, "rows dim"]:
    """On a device, but not on MPS, which has no float64."""
    device = device or rows.device
    return rows.to("cpu" if device.type == "mps" else device)
