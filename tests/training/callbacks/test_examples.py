"""Examples are drawn after every epoch, and training does not notice."""

from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.training.callbacks.examples import Examples
from vse_gpo.training.module import RetrievalModule


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, RetrievalModule]:
    """Two epochs with a check of the validation before them."""
    folder, module = tmp_path_factory.mktemp("run"), tiny_module()
    trainer = tiny_trainer(folder, max_epochs=2, num_sanity_val_steps=1, callbacks=[Examples(queries=3, seed=0)])
    trainer.fit(module, datamodule=tiny_data())
    return folder, module


def test_every_epoch_leaves_a_picture_and_no_embeddings_and_the_training_as_it_was(run, tmp_path):
    folder, module = run
    assert [path.name for path in sorted(folder.glob("examples/*"))] == ["epoch_00.png", "epoch_01.png"]
    assert module.encoded is None
    alone = tiny_module()
    trainer = tiny_trainer(tmp_path, max_epochs=2)
    trainer.fit(alone, datamodule=tiny_data())
    assert all(torch.equal(value, weights(module)[name]) for name, value in weights(alone).items())
    trainer.test(alone, datamodule=tiny_data(), verbose=False)
    assert alone.encoded is None
