"""One evaluation of any models, or of any program's embeddings, by any protocols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from vse_gpo.evaluation.bank import BankChoice, choose_banks
from vse_gpo.evaluation.clip_benchmark import write_benchmark
from vse_gpo.evaluation.encoding import EmbeddingModule, open_data
from vse_gpo.evaluation.published import published_row
from vse_gpo.evaluation.results import tables, write_results
from vse_gpo.evaluation.scoring import combine, score
from vse_gpo.evaluation.two_stages import check_model, second_stage, staged, stages, with_times
from vse_gpo.model import VSE
from vse_gpo.retrieval.banks import beside, check_ids
from vse_gpo.retrieval.embeddings import Encoded, read_encoded, write_embeddings
from vse_gpo.retrieval.hubness import Correction
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
    bank: Sequence[str],
    bank_size: int | None,
    corrections: Mapping[str, Correction],
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
    clip_benchmark: bool,
    rerank: int | None,
    rerank_embedding: float,
) -> None:
    """Evaluate every source, and their ensemble if there are several; print tables and write files.

    Args:
        checkpoints: anything that holds a model; see ``load_model``.
        embeddings: files of any program; see ``read_encoded``.
        protocols: names of protocols.
        folder: output folder.
        published: published row to compare with.
        bank, bank_size: banks of the corrections; see ``choose_banks``.
        corrections: name after a protocol's ``+`` → correction.
        cxc, cxc_threshold_originals, pmrp: see ``read_annotations``.
        tokenizer, vocabulary: see ``load_model``.
        accelerator: ``cpu`` keeps off the GPU.
        seed: seed of the intervals.
        dataset, make_source, split, batch_size, workers: what the models encode; see ``open_data``.
        precision: of the encoders; see ``in_precision``.
        devices: number of devices, each with its share of the data; None leaves it to the trainer.
        make_trainer: builds the trainer that runs the encoders.
        save_embeddings: file for the embeddings.
        clip_benchmark: also write the results in the form of CLIP_benchmark.
        rerank: first items of each query by the embedding that the interaction re-orders; None ranks all by it.
        rerank_embedding: weight of the embedding's similarity beside the interaction's in their new order.

    Raises:
        VSEError: if there is nothing to evaluate, or sources and protocols do not fit each other.
    """
    kept_in = None if save_embeddings is None else Path(save_embeddings).expanduser()
    check_sources(checkpoints, embeddings, folder, kept_in)
    if published is not None:
        published_row(published)
    both = len(checkpoints) + len(embeddings)
    second = second_stage(rerank, rerank_embedding, sources=both, embeddings=embeddings, bank=bank)
    if second is not None:
        protocols, corrections = staged(protocols, second), stages(second)
    annotations = read_annotations(  # what is missing stops the evaluation before any work
        protocols,
        cxc=cxc,
        cxc_threshold_originals=cxc_threshold_originals,
        pmrp=pmrp,
        seed=seed,
        corrections=corrections,
    )
    banks = choose_banks(
        bank,
        checkpoints=checkpoints,
        embeddings=embeddings,
        protocols=protocols if rerank is None else [],  # those of two stages need none
        size=bank_size,
        seed=seed,
    )
    if checkpoints and "root" in dataset:
        for part in (split, *(one.name for one in banks if one is not None and not one.is_file)):
            read_listing(Path(dataset["root"]).expanduser(), part)  # the disk comes before any hub
    device = choose_device(accelerator)
    in_precision(device, precision)  # refuses an unknown one
    encode = CheckpointEncoder(
        open_data=partial(open_data, dataset=dataset, batch_size=batch_size, workers=workers),
        make_source=make_source,
        make_trainer=make_trainer if devices is None else partial(make_trainer, devices=devices),
        split=split,
        device=device,
        precision=precision,
        check=partial(check_protocols, protocols, known=[*PROTOCOLS, *ANNOTATED], corrections=corrections),
        rerank=rerank,
        save_embeddings=kept_in,
    )
    sources: dict[str, Encoded] = {}
    for name, chosen in zip(checkpoints, banks, strict=False):
        model = load_model(name, tokenizer=tokenizer, vocabulary=vocabulary)
        sources[source_name(name, sources)] = encode(name, model, chosen)
    origin = str(dataset["name"]), split
    origins = dict.fromkeys([*sources, ENSEMBLE] if sources else [], origin)  # not known of files of embeddings alone
    for name, chosen in zip(embeddings, banks[len(checkpoints) :], strict=True):
        test = read_encoded(name, device)
        sources[source_name(name, sources)] = test if chosen is None else beside(test, chosen.read(device))
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process compares and writes
        return
    if len(sources) > 1:
        sources[ENSEMBLE] = combine(sources)
    results = score(sources, protocols, annotations, published=published, seed=seed, corrections=corrections)
    if second is not None:
        results, times = with_times(results, next(iter(sources.values())), second)
        print(f"re-ranking the first {rerank}: {times['i2t_ms']:.1f} ms an image, {times['t2i_ms']:.1f} ms a caption")
    for table in tables(results):
        get_console().print(table)
    write_results(folder, results, sources, origins)
    if clip_benchmark:
        typed = dict(zip(sources, [*checkpoints, *embeddings], strict=False))
        write_benchmark(folder / "clip_benchmark", results, {ENSEMBLE: ",".join(typed.values())} | typed)
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


@dataclass(frozen=True, kw_only=True)
class CheckpointEncoder:
    """Makes a test set of what a model encodes, with a bank or with item sets beside it.

    Args:
        open_data: model, split and ``make_source`` → its data.
        make_source: settings of a data set → the data set.
        make_trainer: builds the trainer that runs the encoders.
        split: to evaluate.
        device: that compares.
        precision: of the encoders; see ``in_precision``.
        check: refuses a number of images that a protocol is not defined on.
        rerank: first items that the interaction re-orders; None ranks all by it.
        save_embeddings: file for the embeddings.
    """

    open_data: Callable[..., PairsDataModule]
    make_source: Callable[[Mapping[str, Any]], Source]
    make_trainer: Callable[[], pl.Trainer]
    split: str
    device: torch.device
    precision: int | str
    check: Callable[..., None]
    rerank: int | None
    save_embeddings: Path | None

    def __call__(self, name: str, model: VSE, chosen: BankChoice | None) -> Encoded:
        """The test set.

        Args:
            name: of the model.
            model: model to evaluate.
            chosen: its bank; None without corrections.

        Raises:
            VSEError: if model, data, protocols and bank do not fit each other.
        """
        data = self.open_data(model, make_source=self.make_source, split=self.split)
        of_embeddings = {"save_embeddings": self.save_embeddings, "bank": chosen}
        in_use = [setting for setting, value in of_embeddings.items() if value]
        images = len(data.split("test").images)
        check_model(name, model, first=self.rerank, images=images, of_embeddings=in_use)
        self.check(images=images)
        trainer = self.make_trainer()
        if chosen is None or chosen.is_file:
            test = self._encode(model, data, trainer, self.save_embeddings)
            return test if chosen is None else beside(test, chosen.read(self.device))
        pairs = self.open_data(model, make_source=chosen.source(self.make_source), split=chosen.name)
        check_ids(data.split("test").image_ids, pairs.split("test").image_ids, "image")
        test = self._encode(model, data, trainer, self.save_embeddings)
        return beside(test, self._encode(model, pairs, trainer, None))

    def _encode(self, model: VSE, data: PairsDataModule, trainer: pl.Trainer, save_embeddings: Path | None) -> Encoded:
        """The test split as a model sees it, encoded on all processes.

        Raises:
            VSEError: if nothing was encoded.
        """
        split = data.split("test")
        module = EmbeddingModule(model, self.precision, keeps_items=self.rerank is not None)
        trainer.test(module, datamodule=data, verbose=False)
        if module.encoded is None:
            raise VSEError(f"{split.name}: nothing was encoded, expected every image and caption")
        found = module.encoded.to(self.device)
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
            embeddings=(found.images, found.captions) if model.interaction is None else None,
            bank=found.item_sets,
        )
