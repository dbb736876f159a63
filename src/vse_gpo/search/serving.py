"""The page of an index and its API, served until it is interrupted."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vse_gpo.batch import choose_device, in_precision
from vse_gpo.data.files import read_lines
from vse_gpo.search.answers import Answers
from vse_gpo.search.api import build_api
from vse_gpo.search.guard import is_own_name
from vse_gpo.search.index import Index
from vse_gpo.search.page import build_page, serve
from vse_gpo.search.reranking import choose_rerank

SHOWN, SHORT = 6, 60  # examples, and characters of one


def serve_page(
    *,
    index: str,
    captions: str | None,
    examples: str | Sequence[str] | None,
    top: int,
    rerank: int | str | None,
    model: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
    accelerator: str,
    precision: int | str,
    host: str,
    hosts: Sequence[str],
    port: int,
    open: bool,
) -> None:
    """Serve the page and the API until it is interrupted.

    Args:
        index: folder of the index.
        captions: file with one caption per line; an image finds those that fit it.
        examples: texts to click; None takes some of the captions.
        top: images to show until another number is chosen.
        rerank: first images of the embedding that the model's interaction re-orders; see ``choose_rerank``.
        model, tokenizer, vocabulary: where the index's model is now; see ``Index.open_model``.
        accelerator: ``cpu`` keeps off the GPU, on which an exact index is searched too.
        precision: see ``vse_gpo.batch.in_precision``.
        host, port: address to listen at.
        hosts: names that other machines reach the page by, beside its addresses.
        open: open the page in a browser.

    Raises:
        VSEError: if the index, its model or the captions are not there, or the port is taken.
    """
    device = choose_device(accelerator)
    in_precision(device, precision)  # refuses an unknown one
    found = Index.load(index).search_on(device)
    known = [] if captions is None else read_lines(Path(captions).expanduser())
    encoders = found.open_model(model, tokenizer=tokenizer, vocabulary=vocabulary).to(device)
    first = choose_rerank(rerank, found, encoders, top=top)
    answers = Answers(found, encoders, known, precision=precision, rerank=first)
    texts = [examples] if isinstance(examples, str) else examples
    shown = example_texts(answers.captions) if texts is None else list(texts)
    page = build_page(answers, examples=shown, top=top, shows_paths=is_own_name(host) and not hosts)
    api = partial(build_api, answers)
    address = serve(page, api=api, host=host, port=port, open_browser=open, hosts=hosts)
    print(f"{address} shows {len(found)} images; Ctrl+C ends it", flush=True)
    page.block_thread()


def example_texts(captions: list[str]) -> list[str]:
    """Some short captions, from all over the list."""
    short = [caption for caption in captions if len(caption) <= SHORT and caption.isprintable()]
    return short[:: max(1, len(short) // SHOWN)][:SHOWN]
