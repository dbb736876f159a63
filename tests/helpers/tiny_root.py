"""A data set on disk that a command trains on in a second, and the overrides that make the model as small."""

import json
from pathlib import Path

import numpy as np

from tests.helpers.on_disk import write_features, write_texts

WORDS = ["a", "red", "green", "blue", "car", "dog", "boat"]


def tiny_root(folder: Path) -> list[str]:
    """Write the data set with one to three captions an image, and give the overrides of a run on it."""
    draws = np.random.default_rng(0)
    for split, images in (("train", 12), ("dev", 6), ("test", 6)):
        captions = {
            str(image): [" ".join(draws.choice(WORDS, 4)) for _ in range(1 + image % 3)] for image in range(images)
        }
        write_texts(folder, split, captions)
        write_features(folder, draws.standard_normal((images, 3, 4)).astype(np.float32), split)
    vocabulary = ["<pad>", "<start>", "<end>", "<unk>", *WORDS]
    index = {word: row for row, word in enumerate(vocabulary)}
    scan = {"word2idx": index, "idx2word": {str(row): word for word, row in index.items()}, "idx": len(index)}
    (folder / "vocabulary.json").write_text(json.dumps(scan), encoding="utf-8")
    return [
        "~experiment",
        "dataset=f8k",
        f"dataset.root={folder}",
        "dataset.test_protocols=[all]",
        "backbone=butd_region",
        "backbone.width=4",
        "text=bigru",
        f"text.vocabulary={folder / 'vocabulary.json'}",
        "embedding_width=8",
        "batch_size=8",
        "workers=0",
        "trainer.max_epochs=2",
        "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=1",
    ]
