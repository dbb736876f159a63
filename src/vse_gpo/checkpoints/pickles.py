"""Files of ``torch.save``, read without running code."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.weights import check_file

DAMAGED = (
    *(RuntimeError, EOFError, KeyError, ValueError, IndexError, AttributeError, TypeError),
    zipfile.BadZipFile,
)  # what torch.load raises on files that are cut, changed or something else


def model_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's weights from those of a training, which may include a loss's; under the model's own names."""
    return {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}


def read_pickle(path: str | Path, allowed: list[Any]) -> Any:
    """Read a file of ``torch.save`` without running code.

    Args:
        path: file to read.
        allowed: classes that it may hold besides tensors and plain containers.

    Raises:
        VSEError: if the file is missing, damaged or holds anything else.
    """
    file = Path(path).expanduser()
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(file, map_location="cpu", weights_only=True)
        check_file(file)
        return content
    except OSError as error:
        raise VSEError(f"{path}: {(error.strerror or str(error)).lower()}, expected a checkpoint") from error
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it holds {name[1]}" if name else "it is damaged or not a checkpoint"
        raise VSEError(f"{path}: refused, {found}; expected only tensors and plain containers") from error
    except (
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        IndexError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
    ) as error:
        raise VSEError(f"{path}: damaged or not a checkpoint ({first_line(error)}); fetch it again") from error
