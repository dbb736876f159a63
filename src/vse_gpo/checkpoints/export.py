"""Export both encoders as programs that run without this package: ONNX for any runtime, ``torch.export`` for torch."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vse_gpo.batch import Features, Tokens
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.storage.writing import check_new, whole_folder

SETTINGS = "towers.json"
TOLERANCE = 1e-4  # of every component of a unit embedding
CHECKED = ((1, 1), (2, 7), (5, 20))  # batches to check a written tower: number of sets, length of the longest

RunTower = Callable[[Sequence[Tensor]], npt.NDArray[np.float32]]  # inputs of a tower → unit embeddings


@dataclass(frozen=True, kw_only=True)
class Tower:
    """An encoder that takes plain tensors.

    Args:
        name: image or text.
        module: tensors → unit embeddings.
        inputs: name → axes of each tensor; named axes may have any length.
        sample: number of sets, length of the longest → inputs of that size.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, tuple[str | int, ...]]
    sample: Callable[[int, int], tuple[Tensor, ...]]


class TakesSets(nn.Module):
    """An encoder of sets that takes their values and lengths as plain tensors.

    Args:
        encoder: sets → unit embeddings.
        kind: ``Features`` or ``Tokens``.
    """

    def __init__(self, encoder: Encoder, kind: type[Features] | type[Tokens]) -> None:
        super().__init__()
        self.encoder = encoder
        self.kind = kind

    def forward(self, values: Tensor, lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
        return self.encoder(self.kind(values, lengths))


def image_tower(model: VSE, draws: torch.Generator) -> Tower:
    """The image encoder as a tower: takes pixels, or region features and their lengths.

    Raises:
        VSEError: if the model takes anything else.
    """
    if isinstance(model.prepare_images, PrepareImages):
        sides = (3, model.prepare_images.size, model.prepare_images.size)

        def pixels(images: int, _items: int) -> tuple[Tensor, ...]:
            return (torch.randint(256, (images, *sides), dtype=torch.uint8, generator=draws),)

        return Tower(name="image", module=model.image_encoder, inputs={"pixels": ("batch", *sides)}, sample=pixels)
    if not isinstance(model.prepare_images, PrepareRegions):
        raise VSEError(f"{type(model.prepare_images).__name__} cannot be exported, expected pixels or regions")
    width: int = model.image_encoder.backbone.width  # type: ignore[assignment]

    def regions(images: int, items: int) -> tuple[Tensor, ...]:
        return torch.randn(images, items, width, generator=draws), _lengths(images, items, draws)

    inputs = {"regions": ("batch", "items", width), "lengths": ("batch",)}
    return Tower(name="image", module=TakesSets(model.image_encoder, Features), inputs=inputs, sample=regions)


def text_tower(model: VSE, draws: torch.Generator) -> Tower:
    """The text encoder as a tower: takes token ids, padded with 0, and their lengths."""
    words: int = model.prepare_captions.tokenizer.vocabulary_size

    def tokens(captions: int, items: int) -> tuple[Tensor, ...]:
        lengths = _lengths(captions, items, draws)
        ids = torch.randint(1, words, (captions, items), generator=draws)
        return ids.masked_fill(torch.arange(items) >= lengths[:, None], 0), lengths

    inputs = {"ids": ("batch", "tokens"), "lengths": ("batch",)}
    return Tower(name="text", module=TakesSets(model.text_encoder, Tokens), inputs=inputs, sample=tokens)


def _lengths(sets: int, longest: int, draws: torch.Generator) -> Int[Tensor, " sets"]:
    """Random lengths of sets, the last one the longest."""
    lengths = torch.randint(1, longest + 1, (sets,), generator=draws)
    lengths[-1] = longest
    return lengths


def export(*, model: str, out: str, format: str, tokenizer: str | None, vocabulary: str | None, seed: int) -> None:
    """Write both encoders, check them against the model, and print how close they are.

    Args:
        model, tokenizer, vocabulary: see ``load_model``.
        out: new folder.
        format: one of ``FORMATS``.
        seed: seed of the batches for the check.

    Raises:
        VSEError: if the format is unknown, its packages are missing, or the model cannot be exported.
    """
    if format not in FORMATS:
        raise VSEError(f"format={format}: no such format, expected one of {', '.join(FORMATS)}")
    kind, write, packages = FORMATS[format]
    if missing := [name for name in packages if find_spec(name) is None]:
        raise VSEError(f"format={format} needs {', '.join(missing)}, not installed; pip install 'vse_gpo[export]'")
    folder = Path(out).expanduser()
    check_new(folder)
    loaded = load_model(model, tokenizer=tokenizer, vocabulary=vocabulary)
    for tower, difference in export_towers(loaded, folder, write, kind=kind, seed=seed).items():
        print(f"{tower}.{kind}: embeddings differ from the model's by {difference:.1e} at most")
    print(f"written to {out}")


# write a tower to a file


def export_towers(model: VSE, folder: Path, write: "Writer", *, kind: str, seed: int = 0) -> dict[str, float]:
    """Write both towers, the files of the tokeniser and ``towers.json``; the folder appears only when complete.

    Args:
        model: model to export; it is moved to the CPU and set to eval mode.
        folder: new folder.
        write: exported program and path → a function that runs the written file.
        kind: suffix of the files.
        seed: seed of the inputs for tracing and checking.

    Returns:
        The largest difference from this package's own embeddings, by tower.

    Raises:
        VSEError: if a tower cannot be exported or gives other embeddings, or the folder exists.
    """
    settings = model.settings
    if settings is None:
        raise VSEError("a model that was put together by hand cannot be exported: its settings are not known")
    model = model.cpu().eval()
    draws = torch.Generator().manual_seed(seed)
    described: dict[str, Any] = {"kind": kind}
    differences = {}
    with whole_folder(folder) as part:
        for tower in (image_tower(model, draws), text_tower(model, draws)):
            program = trace(tower)
            path = part / f"{tower.name}.{kind}"
            try:
                run = write(program, path, list(tower.inputs))
            except VSEError:
                raise
            except (RuntimeError, ValueError, TypeError, AssertionError) as error:
                raise _refusal(tower, error) from error
            longest = _longest(program)
            differences[tower.name] = check(tower, run, longest)
            described |= {tower.name: describe(tower, path.name, longest), "width": _width(program)}
        described["prepare_images"] = settings["prepare_images"]
        described["prepare_captions"] = model.prepare_captions.save(part, settings["prepare_captions"])
        (part / SETTINGS).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return differences


Writer = Callable[[ExportedProgram, Path, list[str]], RunTower]


@torch.no_grad()
def trace(tower: Tower) -> ExportedProgram:
    """Trace the tower as a graph for batches and sets of any size.

    Raises:
        VSEError: if the tower does something that a graph cannot express.
    """
    dynamic = tuple(
        {axis: Dim.DYNAMIC for axis, length in enumerate(axes) if isinstance(length, str)}
        for axes in tower.inputs.values()
    )
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel of Transformer layers, which ONNX does not have
    try:
        # neither 1 nor a size of the model: a graph would treat equal sizes as the same
        example = tower.sample(3, 7)
        return torch.export.export(tower.module, example, dynamic_shapes=dynamic, strict=False)
    except VSEError:
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise _refusal(tower, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _refusal(tower: Tower, error: Exception) -> VSEError:
    reason = next((line for line in reversed(str(error).splitlines()) if "Error" in line), first_line(error))
    return VSEError(
        f"the {tower.name} encoder cannot be exported ({reason.strip()[:300]}); its backbone or pooling does something "
        "that a graph cannot express"
    )


def write_torch(program: ExportedProgram, path: Path, _names: list[str]) -> RunTower:
    """Write a file for ``torch.export.load``."""
    archive = io.BytesIO()  # given a file, torch aborts the process if the disk is full
    torch.export.save(program, archive)
    path.write_bytes(archive.getbuffer())
    module = torch.export.load(path).module()
    return lambda inputs: module(*inputs).numpy()


def write_onnx(program: ExportedProgram, path: Path, names: list[str]) -> RunTower:
    """Write a file for any ONNX runtime; weights of more than 1.5 GB go into a second file next to it."""
    import onnxruntime  # noqa: PLC0415, an extra

    with torch.no_grad():
        onnx: Any = torch.onnx.export(
            program, input_names=names, output_names=["embeddings"], dynamo=True, verbose=False
        )
    onnx.save(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))[0]


FORMATS: dict[str, tuple[str, Writer, Sequence[str]]] = {  # suffix, writer, required packages
    "onnx": ("onnx", write_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch": ("pt2", write_torch, ()),
}


# check a written file


@torch.no_grad()
def check(tower: Tower, run: RunTower, longest: int | None) -> float:
    """The largest difference between a written file and the encoder, over batches of several sizes and lengths.

    Raises:
        VSEError: if it is too large, or the file does not take such a batch.
    """
    differences = []
    for sets, items in CHECKED:
        inputs = tower.sample(sets, min(items, longest or items))
        try:
            found = run(inputs)
        except Exception as error:  # each runtime has its own types
            raise VSEError(
                f"the exported {tower.name} encoder takes no batch of {sets} ({first_line(error)[:300]}); "
                "nothing is kept"
            ) from error
        expected = tower.module(*inputs).numpy()
        differences.append(float(np.abs(found - expected).max()))
    if not max(differences) <= TOLERANCE:  # NaN too
        raise VSEError(
            f"the exported {tower.name} encoder differs from the model by {max(differences):.1e}, expected at most "
            f"{TOLERANCE:.0e}; nothing is kept"
        )
    return max(differences)


def _longest(program: ExportedProgram) -> int | None:
    """Number of items in the largest set that a program takes; None if there is no limit."""
    ends = [int(span.upper) for span in program.range_constraints.values() if span.upper < 2**31]
    return min(ends, default=None)


def _width(program: ExportedProgram) -> int:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return int(output.args[0][0].meta["val"].shape[1])


def describe(tower: Tower, file: str, longest: int | None) -> dict[str, Any]:
    """Describe the file and inputs of a tower, for those who run it."""
    kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in tower.sample(1, 1)]
    inputs = {
        name: {"shape": list(axes), "dtype": kind}
        for (name, axes), kind in zip(tower.inputs.items(), kinds, strict=True)
    }
    return {"file": file, "inputs": inputs, "longest": longest}
