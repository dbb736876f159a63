"""New images embedded by Ray Data, on any cluster that Ray has, or on this machine.

The images are dealt out in shards. An actor, which holds the model, writes the rows of a shard as a fragment of the
table; it counts when this process has committed it. A lost actor's shard is given to another, and a killed command
resumes with the images that have no committed row. Every machine sees the images and the index at the same paths.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from vse_gpo.batch import choose_device
from vse_gpo.data.encoding import Encoding
from vse_gpo.data.loading import AUTO
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE
from vse_gpo.search.items import Compaction
from vse_gpo.search.pictures import Reasons, embed_pictures
from vse_gpo.search.records import record_batch
from vse_gpo.search.stored import Picture
from vse_gpo.search.updating import About, Saving, embed_new
from vse_gpo.search.writer import TableWriter, write_fragments

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
try:
    import ray
    import ray.data
except ImportError as error:
    raise VSEError("engine=ray needs Ray, which is not installed; pip install 'vse_gpo[ray]'") from error


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Embeds new images on a cluster.

    Args:
        actors: processes with the model; None takes as many as the cluster has room for.
        cpus, gpus: that each of them is given; with several CPUs it decodes images in processes of its own.
        shard: images of a fragment, which a lost process embeds again.
    """

    actors: int | None
    cpus: int
    gpus: float
    shard: int

    def __call__(
        self,
        model: VSE,
        folder: Path,
        pictures: Sequence[Picture],
        table: TableWriter,
        encoding: Encoding,
        compaction: Compaction | None,
        about: About,
    ) -> Reasons:
        """See ``embed_new``; the first batch is embedded here, if there is no table yet whose columns others need."""
        skipped: Reasons = {}
        rest = [*pictures]
        while rest and not table.has_columns:
            first, rest = rest[: encoding.batch_size], rest[encoding.batch_size :]
            skipped |= embed_new(model, folder, first, table, encoding, compaction, about)
        if not rest:
            return skipped
        workers = self.cpus - 1 if encoding.workers == AUTO else encoding.workers
        how = replace(encoding, workers=workers)
        saving = Saving[str](table.folder, len(rest), table.append_fragments)
        shards = [rest[at : at + self.shard] for at in range(0, len(rest), self.shard)]
        with cluster_told(), on_ray(), progress_bar("images", total=len(rest)) as progress:
            for found in self._results(shards, (ray.put(model), str(folder), table.place, how, compaction)):
                skipped |= dict(zip(found["skipped"], found["reasons"], strict=True))
                saving.add(found["fragments"], images=found["images"])
                advance(progress, found["images"])
        saving.save()
        return skipped

    def _results(self, shards: Sequence[Sequence[Picture]], settings: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
        """What became of each shard, as soon as it is ready."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0) // self.cpus)
        room = min(room, int(there.get("GPU", 0) // self.gpus)) if self.gpus else room
        if room < (self.actors or 1):
            raise VSEError(
                f"actors={self.actors or 1} of cpus={self.cpus} gpus={self.gpus:g} each, but Ray's cluster has "
                f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs"
            )
        rows = [dict(zip(Picture._fields, map(list, zip(*shard, strict=True)), strict=True)) for shard in shards]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardEmbedder,
            fn_constructor_args=settings,
            compute=ray.data.ActorPoolStrategy(size=min(self.actors or room, len(rows))),
            num_cpus=self.cpus,
            num_gpus=self.gpus,
        )
        yield from data.iter_rows()


class ShardEmbedder:
    """Embeds shards and writes their fragments, in a process of the cluster.

    Args:
        model: whose image encoder is used, or a reference to it.
        folder: of the images.
        place: of the table.
        encoding: see ``embed_pictures``; the device is the one of this process.
        compaction: how the items are stored.
    """

    def __init__(self, model: Any, folder: str, place: str, encoding: Encoding, compaction: Compaction | None) -> None:
        self.model: VSE = ray.get(model) if isinstance(model, ray.ObjectRef) else model
        self.folder = Path(folder)
        self.place = place
        self.encoding = replace(encoding, devices=[choose_device(AUTO)])
        self.compaction = compaction

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        columns = zip(*(row[name] for name in Picture._fields), strict=True)
        pictures = [Picture(str(file), int(size), int(modified)) for file, size, modified in columns]
        skipped: Reasons = {}
        batches = []
        for batch in embed_pictures(self.model, self.folder, pictures, self.encoding, self.compaction):
            skipped |= batch.skipped
            if batch.pictures:
                batches.append(record_batch(batch))
        fragments = write_fragments(self.place, pa.Table.from_batches(batches)) if batches else []
        return {
            "images": len(pictures),
            "fragments": fragments,
            "skipped": [*skipped],
            "reasons": [*skipped.values()],
        }


@contextmanager
def on_ray() -> Iterator[None]:
    """Use the cluster that ``RAY_ADDRESS`` or this machine has; else one of this machine, until the end."""
    started = not ray.is_initialized()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        if started:
            ray.shutdown()


@contextmanager
def cluster_told() -> Iterator[None]:
    """Tell in one line what happened on the cluster.

    Raises:
        VSEError: the one that an actor raised, or in place of Ray's error.
    """
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, VSEError):
            raise cause from error
        raise VSEError(f"engine=ray: {first_line(error)}; what was committed is kept, run it again") from error
