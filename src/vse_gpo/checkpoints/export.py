"""Export both encoders as programs that run without this package: ONNX for any runtime, ``torch.export`` for torch."""

import io
import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from vse_gpo.checkpoints.sources import load_model
from vse_gpo.checkpoints.towers import Tower, image_tower, text_tower
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.storage.writing import check_new, whole_folder

SETTINGS = "towers.json"
TOLERANCE = 1e-4  # of every component of a unit embedding
CHECKED = ((1, 1), (2, 7), (5, 20))  # batches to check a written tower: number of sets, length of the longest

RunTower = Callable[[Sequence[Tensor]], Sequence[npt.NDArray[Any]]]  # inputs of a tower → its outputs


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
                run = write(program, path, tower)
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


Writer = Callable[[ExportedProgram, Path, Tower], RunTower]


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


def write_torch(program: ExportedProgram, path: Path, tower: Tower) -> RunTower:
    """Write a file for ``torch.export.load``."""
    archive = io.BytesIO()  # given a file, torch aborts the process if the disk is full
    torch.export.save(program, archive)
    path.write_bytes(archive.getbuffer())
    module = torch.export.load(path).module()
    if len(tower.outputs) == 1:
        return lambda inputs: [module(*inputs).numpy()]
    return lambda inputs: [output.numpy() for output in module(*inputs)]


def write_onnx(program: ExportedProgram, path: Path, tower: Tower) -> RunTower:
    """Write a file for any ONNX runtime; weights of more than 1.5 GB go into a second file next to it."""
    import onnxruntime  # noqa: PLC0415, an extra

    with torch.no_grad():
        onnx: Any = torch.onnx.export(
            program, input_names=list(tower.inputs), output_names=list(tower.outputs), dynamo=True, verbose=False
        )
    onnx.save(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(zip(tower.inputs, (x.numpy() for x in inputs), strict=True)))


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
        expected = tower.module(*inputs)
        for one, other in zip(found, expected if len(tower.outputs) > 1 else [expected], strict=True):
            differences.append(float(np.abs(one - other.numpy()).max()))
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
    return {"file": file, "inputs": inputs, "outputs": list(tower.outputs), "longest": longest}
