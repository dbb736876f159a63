"""One evaluation of any models, or of any program's embeddings, by any protocols."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from rich import get_console

from vse_gpo.batch import choose_device, in_precision
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.data.datamodule import PairsDataModule, Source
from vse_gpo.data.files import read_listing
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import ANNOTATED, read_annotations
from vse_gpo.evaluation.encoding import EmbeddingModule, open_data
from vse_gpo.evaluation.published import published_row
from vse_gpo.evaluation.results import tables, write_results
from vse_gpo.evaluation.scoring import combine, score
from vse_gpo.retrieval.embeddings import Encoded, read_encoded, write_embeddings
from vse_gpo.retrieval.protocols import PROTOCOLS, check_protocols
from vse_gpo.storage.hub import is_path
from vse_gpo.storage.settings import CONFIG

ENSEMBLE = "ensemble"


def evaluate_sources(
    *,
    checkpoints: Sequence[str],
    embeddings: Sequence[str],
    protocols: Sequence[str],
    folder: Path,
    published: str | None,
    cxc: str | None,
    cxc_threshold_originals: bool,
    pmrp: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
    accelerator: str,
    seed: int,
    dataset: Mapping[str, Any],
    make_source: Callable[[Mapping[str, Any]], Source],
    split: str,
    batch_size: int,
    workers: int | str,
    precision: int | str,
    devices: int | str | None,
    make_trainer: Callable[..., pl.Trainer],
    save_embeddings: str | None,
) -> None:
    """Evaluate every source, and their ensemble if there are several; print tables and write files.

    Args:
        checkpoints: anything that holds a model; see ``load_model``.
        embeddings: files of any program; see ``read_encoded``.
        protocols: names of protocols.
        folder: output folder.
        published: published row to compare with.
        cxc, cxc_threshold_originals, pmrp: see ``read_annotations``.
        tokenizer, vocabulary: see ``load_model``.
        accelerator: ``cpu`` keeps off the GPU.
        seed: seed of the intervals.
        dataset, make_source, split, batch_size, workers: what the models encode; see ``open_data``.
        precision: of the encoders; see ``in_precision``.
        devices: number of devices, each with its share of the data; None leaves it to the trainer.
        make_trainer: builds the trainer that runs the encoders.
        save_embeddings: file for the embeddings.

    Raises:
        VSEError: if there is nothing to evaluate, or sources and protocols do not fit each other.
    """
    kept_in = None if save_embeddings is None else Path(save_embeddings).expanduser()
    check_sources(checkpoints, embeddings, folder, kept_in)
    if published is not None:
        published_row(published)
    annotations = read_annotations(  # what is missing stops the evaluation before any work
        protocols, cxc=cxc, cxc_threshold_originals=cxc_threshold_originals, pmrp=pmrp, seed=seed
    )
    if checkpoints and "root" in dataset:
        read_listing(Path(dataset["root"]).expanduser(), split)  # the disk comes before any hub
    device = choose_device(accelerator)
    in_precision(device, precision)  # refuses an unknown one
    sources: dict[str, Encoded] = {}
    for name in checkpoints:
        model = load_model(name, tokenizer=tokenizer, vocabulary=vocabulary)
        data = open_data(model, dataset, make_source, split=split, batch_size=batch_size, workers=workers)
        module = EmbeddingModule(model, precision)
        trainer = make_trainer() if devices is None else make_trainer(devices=devices)
        test = encode(module, data, protocols, trainer=trainer, device=device, save_embeddings=kept_in)
        sources[source_name(name, sources)] = test
    for name in embeddings:
        sources[source_name(name, sources)] = read_encoded(name, device)
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process compares and writes
        return
    if len(sources) > 1:
        sources[ENSEMBLE] = combine(sources)
    results = score(sources, protocols, annotations, published=published, seed=seed)
    for table in tables(results):
        get_console().print(table)
    write_results(folder, results, sources)
    print(f"written to {folder}")


def check_sources(
    checkpoints: Sequence[str], embeddings: Sequence[str], folder: Path, save_embeddings: Path | None
) -> None:
    """Before any work, refuse what cannot be evaluated or would overwrite a training.

    Raises:
        VSEError: if there is no source, one is missing, or an output path cannot be used.
    """
    if not checkpoints and not embeddings:
        raise VSEError(
            "nothing to evaluate; set checkpoint= to a .ckpt, .pth, folder or hub id, or embeddings= to a file"
        )
    if (folder / CONFIG).is_file():
        raise VSEError(f"{folder}: holds a training, whose results would be lost; set hydra.run.dir= to another folder")
    if save_embeddings is not None:
        if len(checkpoints) != 1:
            raise VSEError(f"save_embeddings={save_embeddings} with {len(checkpoints)} checkpoints, expected one")
        if save_embeddings.suffix != ".npz":
            raise VSEError(f"save_embeddings={save_embeddings}: expected a file that ends in .npz")
    for name in [*checkpoints, *embeddings]:
        if is_path(name) and not Path(name).expanduser().exists():
            raise VSEError(f"{name}: no such file")


def source_name(path: str, taken: Mapping[str, Any]) -> str:
    """Short name: a checkpoint's run folder, otherwise the file's name; numbered if it is taken."""
    place = Path(path)
    name = place.parents[1].name if place.parent.name == "checkpoints" else place.stem
    name, number = name or place.name, 2
    while name in taken or name == ENSEMBLE:
        name, number = f"{name.rsplit('#', 1)[0]}#{number}", number + 1
    return name


def encode(
    module: EmbeddingModule,
    data: PairsDataModule,
    protocols: Sequence[str],
    *,
    trainer: pl.Trainer,
    device: torch.device,
    save_embeddings: Path | None,
) -> Encoded:
    """The test split as a model sees it, encoded on all processes.

    Raises:
        VSEError: if nothing was encoded, or a protocol is defined on another test set.
    """
    split = data.split("test")
    check_protocols(protocols, len(split.images), [*PROTOCOLS, *ANNOTATED])
    trainer.test(module, datamodule=data, verbose=False)
    if module.encoded is None:
        raise VSEError(f"{split.name}: nothing was encoded, expected every image and caption")
    found = module.encoded.to(device)
    if save_embeddings is not None and trainer.is_global_zero:
        write_embeddings(
            save_embeddings,
            image_embeddings=found.images.cpu().numpy(),
            caption_embeddings=found.captions.cpu().numpy(),
            caption_to_image=split.caption_to_image,
            image_ids=split.image_ids,
        )
    return Encoded(
        similarities=found.similarities(),
        caption_to_image=split.caption_to_image,
        image_ids=split.image_ids,
        files=[split.images.name(row) for row in range(len(split.images))],
    )
