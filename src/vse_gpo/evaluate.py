"""python -m vse_gpo.evaluate checkpoint=… dataset=… protocols=[…] : any model by every protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from vse_gpo.commands import CONFIG, device_of, ignore_remarks, run_command
from vse_gpo.errors import VSEError

if TYPE_CHECKING:
    import torch

    from vse_gpo.model import VSE
    from vse_gpo.results import Result
    from vse_gpo.retrieval.annotations import CrisscrossedCaptions, IdPairs
    from vse_gpo.retrieval.embeddings import Encoded
    from vse_gpo.retrieval.protocols import Protocol

ENSEMBLE = "ensemble"
ANNOTATED = (
    "cxc",
    "cxc_correlation",
    "eccv",
    "pmrp",
)  # protocols that know more positives than the captions' own images


def main() -> None:
    """The command."""
    run_command(_evaluate, "evaluate")


def _evaluate(config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    evaluate(config, Path(HydraConfig.get().runtime.output_dir))


def evaluate(config: DictConfig, folder: Path) -> None:
    """Evaluate every source, and their ensemble where there are several; print tables and write files.

    Args:
        config: see ``configs/evaluate.yaml``.
        folder: to write to.

    Raises:
        VSEError: if there is nothing to evaluate, or sources and protocols do not fit each other.
    """
    checkpoints, files = _several(config.checkpoint), _several(config.embeddings)
    if not checkpoints and not files:
        raise VSEError(
            "nothing to evaluate; set checkpoint= to a .ckpt, .pth, folder or hub id, or embeddings= to a file"
        )
    if (folder / CONFIG).is_file():
        raise VSEError(f"{folder}: holds a training, whose results would be lost; set hydra.run.dir= to another folder")
    if config.save_embeddings is not None:
        if len(checkpoints) != 1:
            raise VSEError(
                f"save_embeddings={config.save_embeddings} with {len(checkpoints)} checkpoints, expected one"
            )
        if Path(config.save_embeddings).suffix != ".npz":
            raise VSEError(f"save_embeddings={config.save_embeddings}: expected a file that ends in .npz")
    for name in [*checkpoints, *files]:
        if Path(name).suffix in FILES and not Path(name).exists():
            raise VSEError(f"{name}: no such file")

    from pytorch_lightning.utilities import rank_zero_only
    from rich import get_console

    from vse_gpo.results import tables, write_results
    from vse_gpo.retrieval.embeddings import read_encoded

    ignore_remarks()
    protocols = _several(config.protocols) or _several(config.dataset.test_protocols)
    annotations = read_annotations(protocols, config)  # what is missing stops an evaluation before its work
    device = device_of(config.accelerator)
    encoded: dict[str, Encoded] = {}
    for name in checkpoints:
        encoded[_source_name(name, encoded)] = encode(name, protocols, config, device)
    for name in files:
        encoded[_source_name(name, encoded)] = read_encoded(name, device)
    if getattr(rank_zero_only, "rank", 0) != 0:  # the first process compares and writes
        return
    if len(encoded) > 1:
        encoded[ENSEMBLE] = combine(encoded)
    results = score(encoded, protocols, annotations, config)
    for table in tables(results):
        get_console().print(table)
    write_results(folder, results, encoded)
    print(f"written to {folder}")


FILES = (".ckpt", ".pth", ".tar", ".npz", ".npy", ".safetensors")


def _several(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, ListConfig) else [str(value)]


def _source_name(path: str, taken: Mapping[str, Any]) -> str:
    """A short name: the run's folder of a checkpoint, else the file's name; numbered where it is taken."""
    place = Path(path)
    name = place.parents[1].name if place.parent.name == "checkpoints" else place.stem
    name, number = name or place.name, 2
    while name in taken or name == ENSEMBLE:
        name, number = f"{name.rsplit('#', 1)[0]}#{number}", number + 1
    return name


def encode(source: str, protocols: Sequence[str], config: DictConfig, device: "torch.device") -> "Encoded":
    """The data set's test split as a model sees it, encoded on all processes.

    Raises:
        VSEError: if it cannot be, or is no test set of the protocols.
    """
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from vse_gpo.checkpoints import load_model
    from vse_gpo.data.datamodule import PairsDataModule
    from vse_gpo.module import EmbeddingModule
    from vse_gpo.retrieval.embeddings import Encoded, write_embeddings
    from vse_gpo.retrieval.protocols import PROTOCOLS, check_protocols
    from vse_gpo.retrieval.similarity import similarities

    model = load_model(source, tokenizer=config.tokenizer, vocabulary=config.vocabulary)
    data = PairsDataModule(
        source=_open_dataset(config, model),
        images=model.prepare_images,  # type: ignore[arg-type]
        captions=model.prepare_captions,  # type: ignore[arg-type]
        batch_size=1,
        evaluation_batch_size=config.batch_size,
        workers=config.workers,
        seed=0,
        drop_last=False,
        test_split=config.split or config.dataset.test_split,
    )
    check_protocols(protocols, len(data.split("test").images), [*PROTOCOLS, *ANNOTATED])
    module = EmbeddingModule(model)
    trainer: pl.Trainer = instantiate(config.trainer)
    trainer.test(module, datamodule=data, verbose=False)
    if module.embeddings is None:
        raise VSEError(f"{source}: nothing was encoded")
    images, captions = (part.to(device) for part in module.embeddings)
    split = data.split("test")
    if config.save_embeddings is not None and trainer.is_global_zero:
        write_embeddings(
            Path(config.save_embeddings),
            image_embeddings=images.cpu().numpy(),
            caption_embeddings=captions.cpu().numpy(),
            caption_to_image=split.caption_to_image,
            image_ids=split.image_ids,
        )
    return Encoded(
        similarities=similarities(images, captions),
        caption_to_image=split.caption_to_image,
        image_ids=split.image_ids,
        files=[split.images.name(row) for row in range(len(split.images))],
    )


def _open_dataset(config: DictConfig, model: "VSE") -> Any:
    """The data set, with the images that the model takes: files of pixels or of features."""
    from hydra.utils import instantiate

    settings: Any = OmegaConf.to_container(config.dataset.source, resolve=False)
    if "open_images" not in settings:
        return instantiate(config.dataset.source)
    del settings["open_images"]
    opener = model.prepare_images.opener(config.dataset.image_folder)  # type: ignore[attr-defined]
    return instantiate({**settings, "root": config.dataset.root}, open_images=opener)


def combine(encoded: "Mapping[str, Encoded]") -> "Encoded":
    """The ensemble of all sources: the mean of their similarities.

    Raises:
        VSEError: if they do not hold the same images and captions in the same order.
    """
    from vse_gpo.retrieval.embeddings import Encoded
    from vse_gpo.retrieval.similarity import ensemble

    (first_name, first), *others = encoded.items()
    for what in ("image_ids", "caption_ids"):
        knowing = [(name, list(ids)) for name, one in encoded.items() if (ids := getattr(one, what)) is not None]
        for name, ids in knowing[1:]:
            if ids != knowing[0][1]:
                raise VSEError(
                    f"{knowing[0][0]} and {name} have other {what}; an ensemble needs one test set in one order"
                )
    for name, other in others:
        if first.caption_to_image.tolist() != other.caption_to_image.tolist():
            raise VSEError(f"{first_name} and {name} have other captions; an ensemble needs one test set in one order")
    known: Any = {
        what: next((getattr(one, what) for one in encoded.values() if getattr(one, what) is not None), None)
        for what in ("image_ids", "caption_ids", "files")
    }
    return Encoded(
        similarities=ensemble([one.similarities for one in encoded.values()]),
        caption_to_image=first.caption_to_image,
        **known,
    )


def score(
    encoded: "Mapping[str, Encoded]", protocols: Sequence[str], annotations: "Annotations", config: DictConfig
) -> "list[Result]":
    """Every source by every protocol, with intervals and what was published."""
    import numpy as np

    from vse_gpo.published import PUBLISHED
    from vse_gpo.results import Result
    from vse_gpo.retrieval.protocols import Test, run_protocols
    from vse_gpo.retrieval.uncertainty import bootstrap_intervals

    row = PUBLISHED.get(str(config.published), {})
    last = [*encoded][-1]  # the ensemble, where there is one
    known = annotations.protocols(encoded[last])
    results = []
    for source, one in encoded.items():
        test = Test(similarities=one.similarities, caption_to_image=one.caption_to_image)
        for protocol, outcome in run_protocols(test, protocols, known).items():
            results.append(
                Result(
                    source=source,
                    protocol=protocol,
                    variant=annotations.variant if protocol == "cxc" else "",
                    outcome=outcome,
                    intervals=bootstrap_intervals(outcome, test.image_count, np.random.default_rng(config.seed)),
                    published=row.get(protocol, {}) if source == last else {},
                )
            )
    return results


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What the annotated protocols among those asked for need; None where one is not asked for."""

    folder: Path | None
    crossed: "CrisscrossedCaptions | None"
    eccv: "tuple[IdPairs, IdPairs] | None"
    plausible: "tuple[IdPairs, IdPairs] | None"
    seed: int

    @property
    def variant(self) -> str:
        """Of Crisscrossed Captions."""
        return self.crossed.variant if self.crossed else ""

    def protocols(self, test: "Encoded") -> "dict[str, Protocol]":
        """The protocols over the rows of a test set.

        Raises:
            VSEError: if it is not COCO's.
        """
        from vse_gpo.retrieval.annotations import CocoRows, coco_caption_ids
        from vse_gpo.retrieval.crisscrossed import CrisscrossedCorrelation, CrisscrossedRecalls
        from vse_gpo.retrieval.eccv import ListedPositives, eccv_scores, plausible_scores

        if self.crossed is None and self.eccv is None and self.plausible is None:
            return {}
        if test.image_ids is None:
            raise VSEError("annotated protocols need COCO's image ids; give image_ids with the embeddings")
        caption_ids = test.caption_ids or coco_caption_ids(test.image_ids, test.caption_to_image, self.folder)
        rows = CocoRows(test.image_ids, caption_ids)
        known: dict[str, Protocol] = {}
        if self.crossed:
            known["cxc"] = CrisscrossedRecalls(self.crossed, rows)
            known["cxc_correlation"] = CrisscrossedCorrelation(self.crossed, rows, self.seed)
        if self.eccv:
            known["eccv"] = ListedPositives(*self.eccv, rows, eccv_scores, "eccv")
        if self.plausible:
            known["pmrp"] = ListedPositives(*self.plausible, rows, plausible_scores, "pmrp")
        return known


def read_annotations(protocols: Sequence[str], config: DictConfig) -> Annotations:
    """Check the names of protocols and of the published row, and read what annotations they need.

    Raises:
        VSEError: if a name is unknown or annotations are missing.
    """
    from vse_gpo.published import PUBLISHED
    from vse_gpo.retrieval.annotations import eccv_folder, read_crisscrossed, read_positives
    from vse_gpo.retrieval.protocols import PROTOCOLS

    for name in protocols:
        if name not in PROTOCOLS and name not in ANNOTATED:
            raise VSEError(f"unknown protocol {name}, expected some of {', '.join([*PROTOCOLS, *ANNOTATED])}")
    if config.published is not None and config.published not in PUBLISHED:
        raise VSEError(f"published={config.published}: no such row, expected one of {', '.join(PUBLISHED)}")
    crossing = [name for name in protocols if name.startswith("cxc")]
    if crossing and config.cxc is None:
        raise VSEError(
            f"protocol {crossing[0]} needs annotations; set cxc= to the folder of sits_test.csv and its like"
        )
    if "pmrp" in protocols and config.pmrp is None:
        raise VSEError("protocol pmrp needs its authors' pm_image_to_caption.json; set pmrp= to its folder")
    thresholded = config.cxc_threshold_originals
    return Annotations(
        folder=None if config.cxc is None else Path(config.cxc).expanduser(),
        crossed=read_crisscrossed(config.cxc, threshold_originals=thresholded) if crossing else None,
        eccv=read_positives(eccv_folder(), "eccv") if "eccv" in protocols else None,
        plausible=read_positives(Path(config.pmrp).expanduser(), "pm") if "pmrp" in protocols else None,
        seed=config.seed,
    )


if __name__ == "__main__":
    main()
