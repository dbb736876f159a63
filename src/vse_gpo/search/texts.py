"""A text as a query: its embedding, and the tokeniser's warnings about it."""

import warnings

from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.model import VSE


def check_unicode(text: str) -> None:
    """Refuse a text that no tokeniser can read.

    Raises:
        VSEError: if it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise VSEError("the query is not UTF-8; type it in a terminal that is") from None


def embed_text(model: VSE, text: str) -> tuple[Tensor, list[str]]:
    """Unit embedding (1, E) of a text, and the tokeniser's warnings, for example that the text is cut."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        embedding = model.encode_captions([text])
    return embedding, [str(remark.message) for remark in remarks if remark.category is UserWarning]
