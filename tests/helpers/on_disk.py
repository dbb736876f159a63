"""Small data sets on disk, in the layout of COCO and Flickr30K."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vse_gpo.data.files import Listing

CAPTIONS = {"7": ["a dog runs", "two dogs", "a black dog"], "3": ["a red car"], "12": ["", "boats – at sea"]}
FOLDER = "images"


def write_texts(root: Path, split: str = "train", captions: dict[str, list[str]] = CAPTIONS) -> None:
    """One id per caption."""
    precomp = root / "precomp"
    precomp.mkdir(parents=True, exist_ok=True)
    lines = [line for described in captions.values() for line in described]
    ids = [image_id for image_id, described in captions.items() for _ in described]
    (precomp / f"{split}_caps.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (precomp / f"{split}_ids.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")


def listing(captions: dict[str, list[str]] = CAPTIONS) -> Listing:
    """What ``read_listing`` makes of those texts."""
    counts = [len(described) for described in captions.values()]
    return Listing(
        name="train",
        captions=[line for described in captions.values() for line in described],
        image_ids=list(captions),
        caption_to_image=np.repeat(np.arange(len(counts)), counts),
    )


def write_features(root: Path, features: np.ndarray, split: str = "train") -> Path:
    path = root / "precomp" / f"{split}_ims.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, features)
    return path


def picture(height: int = 24, width: int = 32, seed: int = 0) -> Image.Image:
    """A smooth picture, so that JPEG keeps it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_images(root: Path, ids: list[str], folder: str = FOLDER) -> dict[str, str]:
    """A JPEG per id, half of them in a subfolder, and the mapping."""
    mapping = {}
    for row, image_id in enumerate(ids):
        mapping[image_id] = f"{'val/' if row % 2 else ''}{image_id}.jpg"
        file = root / folder / mapping[image_id]
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(seed=row).save(file, quality=95)
    (root / "id_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    return mapping
