"""Time that a command takes to answer, against Python's own start and an import of torch."""

import subprocess
import sys

from benchmarks.measure import Measured, turn_by_turn

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import torch'": ["-c", "import torch"],
    "import pytorch_lightning, transformers": ["-c", "import pytorch_lightning, transformers"],
    "vse_gpo.train --help": ["-m", "vse_gpo.train", "--help"],
    "vse_gpo.train --cfg job": ["-m", "vse_gpo.train", "--cfg", "job"],
    "vse_gpo.evaluate --help": ["-m", "vse_gpo.evaluate", "--help"],
}


def startup() -> list[Measured]:
    """Time whole processes."""

    def run(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    taken = turn_by_turn([lambda a=arguments: run(a) for arguments in COMMANDS.values()], repeats=3)
    rows = [[name, own, own / taken[1]] for name, own in zip(COMMANDS, taken, strict=True)]
    return [Measured("startup", ["", "seconds", "of importing torch"], rows)]
