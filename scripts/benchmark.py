"""Compare time and memory of this package, of a plain reference and of the limit in one run, as ratios.

python scripts/benchmark.py pooling            GPO, as released, and the mean
python scripts/benchmark.py train_step         a whole step with GPO, with mean pooling, and the bare encoders
python scripts/benchmark.py loader             images per second and core; opening 33 GB of features
python scripts/benchmark.py shards             the same from tars and from a folder; the index of a million samples
python scripts/benchmark.py trunk              feature maps on a CPU, with freed memory kept and returned
python scripts/benchmark.py memory             a training step against the batch size, at once and in micro-batches
python scripts/benchmark.py gpu_memory         what published rows take on GPUs, computed without one
python scripts/benchmark.py ranking            COCO's 5,000 × 25,000 at width 1,024, and cost against size
python scripts/benchmark.py ranking --large    and 100,000 × 500,000 at width 64
python scripts/benchmark.py annotated --cxc DIR    cxc, cxc_correlation and eccv; the package eccv-caption beside them
python scripts/benchmark.py interaction        SCAN and others, 1,000 images × 5,000 captions, against bare products
python scripts/benchmark.py rerank             re-ranking 100 images of an index by their stored items
python scripts/benchmark.py search             exact and approximate search, 100 captions among 100,000 images
python scripts/benchmark.py serving --index DIR    the API of an index: 16 clients at once, and memory over the requests
python scripts/benchmark.py startup            how long commands take to answer

--json FILE before the subcommand saves the numbers.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import torch
from benchmarks.measure import CONSOLE

from vse_gpo.errors import VSEError


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    kinds = parser.add_subparsers(dest="kind", required=True)
    device = {"default": "cuda" if torch.cuda.is_available() else "cpu"}
    kinds.add_parser("pooling").add_argument("--device", **device)
    train_step = kinds.add_parser("train_step")
    train_step.add_argument("--device", **device)
    train_step.add_argument("--precision", default="32-true", choices=("32-true", "bf16-mixed"))
    kinds.add_parser("loader").add_argument("--images", help="folder of JPEGs instead of generated ones")
    kinds.add_parser("shards").add_argument("--samples", type=int, default=1_000_000)
    kinds.add_parser("trunk")
    kinds.add_parser("memory")
    kinds.add_parser("gpu_memory")
    kinds.add_parser("ranking").add_argument("--large", action="store_true")
    kinds.add_parser("annotated").add_argument("--cxc", required=True)
    search = kinds.add_parser("search")
    search.add_argument("--pictures", type=int, default=100_000)
    search.add_argument("--width", type=int, default=1024)
    kinds.add_parser("interaction")
    kinds.add_parser("rerank")
    kinds.add_parser("serving").add_argument("--index", required=True)
    kinds.add_parser("startup")
    options = vars(parser.parse_args())
    kind, path = options.pop("kind"), options.pop("json")
    machine = f"torch {torch.__version__}, {torch.get_num_threads()} threads, Python {platform.python_version()}"
    CONSOLE.print(machine)
    try:
        results = getattr(import_module(f"benchmarks.{kind}"), kind)(**options)
    except VSEError as error:
        sys.exit(f"error: {error}")
    for result in results:
        result.show()
    if path is not None:
        path.write_text(json.dumps({"machine": machine, "results": [asdict(one) for one in results]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
