"""python -m vse_gpo.evaluate checkpoint=… dataset=… protocols=[…] : any model by every protocol."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vse_gpo.cli.run import maker, run_command


def main() -> None:
    """The command."""
    work = "vse_gpo.evaluation.run:evaluate_sources"
    run_command(work, "evaluate", arguments=arguments, bare="checkpoint", computes=True)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.evaluation.run.evaluate_sources``."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    names = "published cxc cxc_threshold_originals pmrp tokenizer vocabulary save_embeddings accelerator devices seed"
    more = "bank_size rerank rerank_embedding batch_size workers precision dataset clip_benchmark"
    return {
        **{name: settings[name] for name in f"{names} {more}".split()},
        "checkpoints": several(settings["checkpoint"]),
        **{name: several(settings[name]) for name in ("embeddings", "bank")},
        "protocols": several(settings["protocols"]) or several(settings["dataset"]["test_protocols"]),
        "corrections": instantiate(settings["corrections"], _convert_="all"),
        "split": settings["split"] or settings["dataset"]["test_split"],
        "folder": folder,
        "make_source": instantiate,
        "make_trainer": maker(config.trainer),
    }


class CallableModule(ModuleType):
    """This module, once imported, takes the place of the function ``vse_gpo.evaluate``, so it can be called like it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See ``vse_gpo.evaluation.scoring.evaluate``."""
        from vse_gpo.evaluation.scoring import evaluate  # noqa: PLC0415, the command answers before torch is imported

        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = CallableModule


def several(value: Any) -> list[str]:
    """One name or a list of names, as a list."""
    listed = value if isinstance(value, list) else [value]
    return [str(one) for one in listed if one is not None]


if __name__ == "__main__":
    main()
