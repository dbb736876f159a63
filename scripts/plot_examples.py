"""python scripts/plot_examples.py RUN OUT.png : test captions of a run and the images that its model ranks first.

RUN is a run's own folder: its config.yaml names the code to build the model with, so use folders you trust.
"""

import argparse
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from vse_gpo.batch import Indexed
from vse_gpo.encoder import Encoder
from vse_gpo.training.callbacks.examples import choose_queries, draw_examples, retrieve


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
    queries = choose_queries(split, count=chosen.queries, seed=chosen.seed)
    draw_examples(retrieve(images, captions, split, queries), split.images).save(chosen.out)


@torch.inference_mode()
def embed(encoder: Encoder, loader: DataLoader[Indexed]) -> torch.Tensor:
    """Embeddings (n, E) of one modality."""
    return torch.cat([encoder.eval()(batch.inputs) for batch in loader])


if __name__ == "__main__":
    main()
