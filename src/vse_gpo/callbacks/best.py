"""The checkpoint of the best epoch, also of those before a run went on in another folder."""

import shutil
import warnings
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only

from vse_gpo.writing import whole_file


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets the best epoch where a run goes on in another folder: here its file comes along.

    Warns if that file is gone: the best of the epochs to come is taken then.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath or ".")
        scores = {Path(path): score for path, score in state_dict["best_k_models"].items()}
        if state_dict["dirpath"] != str(self.dirpath):
            here = {path: folder / path.name for path in scores}
            if gone := [path for path, copy in here.items() if not (copy.is_file() or path.is_file())]:
                message = f"{gone[0]} is gone, expected the best epoch so far; only those to come count"
                warnings.warn(message, stacklevel=2)
                return
            for path, copy in here.items():
                _bring(path, copy)
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "best_k_models": {str(here[path]): score for path, score in scores.items()},
                "last_model_path": "",
                **{
                    name: str(folder / Path(state_dict[name]).name) if state_dict[name] else ""
                    for name in ("best_model_path", "kth_best_model_path")
                },
            }
        super().load_state_dict(state_dict)


@rank_zero_only
def _bring(path: Path, copy: Path) -> None:
    if not copy.is_file():
        with path.open("rb") as source, whole_file(copy) as target:
            shutil.copyfileobj(source, target)
