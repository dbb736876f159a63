"""python scripts/plot_examples.py RUN OUT.png : test captions of a run and the images that its model ranks first.

RUN is a run's own folder: its config.yaml names the code to build the model with, so use folders you trust.
"""

import argparse
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import to_pil_image

from vse_gpo.batch import Indexed
from vse_gpo.encoder import Encoder

SIDE, GAP, LINE = 144, 10, 26  # pixels
TRUE, FALSE = "#2e9e4f", "#c9c9c9"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--queries", type=int, default=4)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    config = OmegaConf.load(chosen.run / "config.yaml")
    data, model = instantiate(config.data), instantiate(config.model)
    checkpoint = torch.load(chosen.run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    weights = {name.removeprefix("model."): value for name, value in checkpoint["state_dict"].items()}
    model.load_state_dict({name: value for name, value in weights.items() if not name.startswith("loss.")})
    split = data.split("test")
    image_loader, caption_loader = data.test_dataloader()
    images, captions = embed(model.image_encoder, image_loader), embed(model.text_encoder, caption_loader)
    queries = torch.randperm(len(captions), generator=torch.Generator().manual_seed(chosen.seed))[: chosen.queries]
    rows = []
    for query in queries.tolist():
        first = (images @ captions[query]).topk(5).indices.tolist()
        pictures = [to_pil_image(split.images[row]).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for row in first]
        rows.append((split.captions[query], pictures, [row == split.caption_to_image[query] for row in first]))
    draw_rows(rows).save(chosen.out)


@torch.inference_mode()
def embed(encoder: Encoder, loader: DataLoader[Indexed]) -> torch.Tensor:
    """Embeddings (n, E) of one modality."""
    return torch.cat([encoder.eval()(batch.inputs) for batch in loader])


def draw_rows(rows: list[tuple[str, list[Image.Image], list[bool]]]) -> Image.Image:
    """Each caption above its pictures, the true one framed."""
    height = LINE + SIDE + 2 * GAP
    canvas = Image.new("RGB", (5 * (SIDE + GAP) + GAP, len(rows) * height + GAP), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=16)
    for line, (caption, pictures, truths) in enumerate(rows):
        top = line * height + GAP
        pen.text((GAP, top), caption, fill="black", font=font)
        for column, (picture, true) in enumerate(zip(pictures, truths, strict=True)):
            left = GAP + column * (SIDE + GAP)
            frame = (left - 4, top + LINE - 4, left + SIDE + 3, top + LINE + SIDE + 3)
            pen.rectangle(frame, outline=TRUE if true else FALSE, width=4 if true else 1)
            canvas.paste(picture, (left, top + LINE))
    return canvas


if __name__ == "__main__":
    main()
