"""python -m vse_gpo.app index=INDEX : a page that finds pictures by a text or by a picture."""

from pathlib import Path

from omegaconf import DictConfig

from vse_gpo.commands import device_of, ignore_remarks, run_command

SHOWN, SHORT = 6, 60  # examples, and characters of one


def main() -> None:
    """The command."""
    run_command(app, "app")


def app(config: DictConfig) -> None:
    """Serve the page until it is interrupted.

    Raises:
        VSEError: if the index, its model or the captions are not there, or the port is taken.
    """
    from vse_gpo.search.index import Index

    index = Index.load(config.index)

    from vse_gpo.data.files import read_lines
    from vse_gpo.search.answers import Answers
    from vse_gpo.search.page import build_page, serve

    ignore_remarks()
    captions = [] if config.captions is None else read_lines(Path(config.captions).expanduser())
    model = index.open_model(config.model, tokenizer=config.tokenizer, vocabulary=config.vocabulary)
    model.to(device_of(config.accelerator))
    answers = Answers(index, model, captions)
    texts = [config.examples] if isinstance(config.examples, str) else config.examples
    examples = example_texts(answers.captions) if texts is None else list(texts)
    page = build_page(answers, examples=examples, top=config.top)
    address = serve(page, host=config.host, port=config.port, open_browser=config.open)
    print(f"{address} shows {len(index)} pictures; Ctrl+C ends it", flush=True)
    page.block_thread()


def example_texts(captions: list[str]) -> list[str]:
    """Some short captions, from all over the list."""
    short = [caption for caption in captions if len(caption) <= SHORT]
    return short[:: max(1, len(short) // SHOWN)][:SHOWN]


if __name__ == "__main__":
    main()
