"""One figure of a run: what its poolings have learned, or what its model finds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vse_gpo.checkpoints.sources import load_model
from vse_gpo.data.datamodule import Source
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.encoding import encode_split, open_data
from vse_gpo.figures.examples import choose_queries, draw_examples, drawable_images, retrieve
from vse_gpo.figures.poolings import draw_curves, model_curves, save_figure
from vse_gpo.model import VSE
from vse_gpo.storage.settings import CONFIG, read_config
from vse_gpo.storage.writing import whole_file

KINDS = ("pooling", "examples")


def plot(
    *,
    run: str,
    out: str,
    kind: str,
    image_sizes: Sequence[int],
    text_sizes: Sequence[int],
    queries: int,
    seed: int,
    tokenizer: str | None,
    vocabulary: str | None,
    make_source: Callable[[Mapping[str, Any]], Source],
) -> None:
    """Write the figure, whole or not at all.

    Args:
        run: a run's folder, or for ``pooling`` anything that holds a model.
        out: PNG file.
        kind: ``pooling`` (coefficients against rank) or ``examples`` (test captions and their top-ranked images).
        image_sizes, text_sizes: set sizes of the curves.
        queries, seed: number of captions, and seed of their choice.
        tokenizer, vocabulary: see ``load_model``.
        make_source: settings of a data set's source → the data set.

    Raises:
        VSEError: if the run holds no model, or has nothing of this kind to draw.
    """
    if kind not in KINDS:
        raise VSEError(f"kind={kind}: no such figure, expected one of {', '.join(KINDS)}")
    folder, place = Path(run).expanduser(), Path(out).expanduser()
    if kind == "examples" and not (folder / CONFIG).is_file():
        raise VSEError(f"{run}: no {CONFIG}, expected a run's folder; kind=examples encodes the run's own data set")
    model = load_model(run, tokenizer=tokenizer, vocabulary=vocabulary)
    if kind == "pooling":
        panels = model_curves(model, image_sizes=image_sizes, text_sizes=text_sizes)
        if not panels:
            raise VSEError(f"{run}: no pooling with coefficients, expected GPO for images or captions")
        save_figure(draw_curves(panels), place)
    else:
        plot_examples(model, read_config(folder)["dataset"], make_source, place, queries=queries, seed=seed)
    print(f"written to {out}")


def plot_examples(
    model: VSE,
    dataset: Mapping[str, Any],
    make_source: Callable[[Mapping[str, Any]], Source],
    out: Path,
    *,
    queries: int,
    seed: int,
) -> None:
    """Draw some test captions with the images that the model ranks first."""
    data = open_data(model, dataset, make_source, split=dataset["test_split"], batch_size=128, workers=0)
    split = data.split("test")
    chosen = choose_queries(split, count=queries, seed=seed)
    similarity = encode_split(model, data).similarities().image_caption
    images = drawable_images(split, dataset, make_source) or split.images
    with whole_file(out) as file:
        draw_examples(retrieve(similarity, split, chosen), images).save(file, format="PNG")
