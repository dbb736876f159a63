"""What a run needs beside its data set: weights of the trunk, vocabulary, text encoder and annotations."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torchvision.models import get_weight

from vse_gpo.data.addresses import Address, file_size, hub_size, read_addresses
from vse_gpo.data.findings import RUN, UNSET, Finding, Need
from vse_gpo.storage.hub import cached_model
from vse_gpo.storage.settings import Settings, walk

FILES = {"weights": "weights", "vocabulary": "vocabulary"}  # last part of a setting's name → part of the run
PARTS = {"backbone": "weights", "text": "text encoder"}


def model_needs(settings: Settings) -> list[Need]:
    """Files and models that the settings of a run name.

    Args:
        settings: ``backbone`` and ``text`` as plain containers, interpolations unresolved.
    """
    return [need for part, own in settings.items() for need in _part_needs(part, own)]


def _part_needs(part: str, settings: Mapping[str, Any]) -> Iterator[Need]:
    for name, value in walk(settings):
        last = name.rpartition(".")[2]
        if not isinstance(value, str) or "${" in value:
            continue
        if last in FILES:
            yield _file(f"{part}.{name}", value, FILES[last])
        elif last == "pretrained":
            yield _hub(value, PARTS[part], f"{part}.{name}")
    network = settings.get("network")
    if isinstance(network, Mapping) and network.get("pretrained") is True and network.get("weights") is None:
        if "depth" in network:
            yield _torchvision(f"ResNet{network['depth']}_Weights.IMAGENET1K_V1", PARTS[part])
        elif network["name"] == UNSET:
            problem = f"{part}.network.name is not set"
            yield Need(Finding(split=RUN, part=PARTS[part], expected="a trunk of timm", problem=problem))
        else:
            known = timm.get_pretrained_cfg(network["name"])
            name = (known.hf_hub_id if known else None) or network["name"]
            yield _hub(name, PARTS[part], f"{part}.network.name")


def _file(setting: str, value: str, part: str) -> Need:
    addresses = tuple(read_addresses("models").get(setting, []))
    path = Path(value).expanduser()
    if value != UNSET and path.is_file():
        found = f"{value}, {file_size(path.stat().st_size)}"
        return Need(Finding(split=RUN, part=part, expected=f"{setting}=FILE", found=found))
    problem = f"{setting} is not set" if value == UNSET else f"{setting}={value}: no such file"
    return Need(Finding(split=RUN, part=part, expected=f"{setting}=FILE", problem=problem), addresses)


def _hub(name: str, part: str, setting: str) -> Need:
    """A folder, or a model of the hub, which a training fetches itself if it can."""
    place = Path(name).expanduser() if Path(name).expanduser().is_dir() else cached_model(name)
    if place is not None:
        size = sum(one.stat().st_size for one in place.rglob("*") if one.is_file())
        found = f"{place}, {file_size(size)}"
        return Need(Finding(split=RUN, part=part, expected=name, found=found))
    address = Address(
        what="the hub, when a training starts",
        address=f"https://huggingface.co/{name}",
        seen="not checked",
        size=hub_size(name),
        command=f"hf download {name}",
    )
    problem = f"{setting}={name}: neither a folder nor in the hub's cache"
    return Need(Finding(split=RUN, part=part, expected=name, problem=problem, optional=True), (address,), hub=name)


def _torchvision(name: str, part: str) -> Need:
    """Weights of torchvision, which a training fetches itself if it can."""
    url = get_weight(name).url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if file.is_file():
        found = f"{file}, {file_size(file.stat().st_size)}"
        return Need(Finding(split=RUN, part=part, expected=name, found=found))
    digest = file.stem.rpartition("-")[2]  # torchvision's names end in the beginning of the SHA-256
    address = Address(
        what="PyTorch, when a training starts", address=url, seen="not checked", sha256=digest, to=str(file)
    )
    problem = f"{file}: no such file"
    return Need(Finding(split=RUN, part=part, expected=name, problem=problem, optional=True), (address,), file=file)
