"""Functions that configs call, such as ``${words_in:FILE}``.

They import what they need by its name when they are called: help does without torch.
"""

import secrets
from pathlib import Path
from typing import Any

from hydra.utils import get_method
from omegaconf import OmegaConf

from vse_gpo.data.vocabulary import read_vocabulary
from vse_gpo.storage.settings import CONFIG
from vse_gpo.training.processes import run_id

WANDB_ID = "logger.wandb.id"


def words_in(path: str) -> int:
    """Number of words in a SCAN vocabulary file, ``<mask>`` included."""
    return len(read_vocabulary(path))


def local(place: str) -> str:
    """Absolute path of a file or folder that exists, so that the model can be used elsewhere; otherwise the name."""
    path = Path(place).expanduser()
    return str(path.resolve()) if path.exists() else place


def dual(pretrained: str, name: str) -> Any:
    """A setting that follows from a pretrained dual encoder; see ``dual_facts``."""
    return get_method("vse_gpo.checkpoints.fine_tuning.dual_facts")(local(pretrained))[name]


def wandb_id(resume: str | None, folder: str) -> str:
    """W&B run id: that of the checkpoint to resume or of the run in the folder, otherwise new."""
    earlier = None
    if resume is not None and Path(resume).expanduser().is_file():
        read_pickle = get_method("vse_gpo.checkpoints.pickles.read_pickle")
        settings = read_pickle(Path(resume).expanduser(), []).get("settings", {})
        earlier = OmegaConf.select(OmegaConf.create(settings), WANDB_ID)
    elif (Path(folder) / CONFIG).is_file():
        earlier = OmegaConf.select(OmegaConf.load(Path(folder) / CONFIG), WANDB_ID)
    return secrets.token_hex(4) if earlier is None else str(earlier)


def register() -> None:
    """Make the functions known to OmegaConf."""
    # ${first:a,b} in a config: the first value that is not null
    first = "first"
    OmegaConf.register_new_resolver(first, lambda *values: next(value for value in values if value is not None))
    OmegaConf.register_new_resolver("count", len)
    OmegaConf.register_new_resolver("dual", dual)  # as words_in
    OmegaConf.register_new_resolver("local", local)
    OmegaConf.register_new_resolver("words_in", words_in)  # a resolved config no longer needs the file
    OmegaConf.register_new_resolver("run_id", run_id, use_cache=True)
    OmegaConf.register_new_resolver("wandb_id", wandb_id, use_cache=True)


register()
