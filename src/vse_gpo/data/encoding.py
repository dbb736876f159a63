"""Encode the items of a data set: on one device in this process, or on several, each by a process of its own."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Dataset

from vse_gpo.batch import ImageInputs, Indexed, each_tensor, encode_batches, in_precision
from vse_gpo.data.loading import full_memory_told, loader
from vse_gpo.errors import VSEError


class ReadBatch(NamedTuple):
    """A batch of those of some items that can be read."""

    inputs: ImageInputs
    rows: Int[Tensor, " batch"]
    skipped: Mapping[int, str] = {}  # the other rows, with the reason
    facts: Sequence[Any] = ()  # what else was read of each of the rows, if anything


class EncodedBatch(NamedTuple):
    """The output for a batch, on the CPU."""

    embeddings: Any  # (batch, …), or named tuples of such tensors
    rows: Int[Tensor, " batch"]
    skipped: Mapping[int, str]  # rows that cannot be read, with the reason
    facts: Sequence[Any] = ()  # what else was read of each of the rows, if anything


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How items are encoded.

    Args:
        batch_size: items at once.
        workers: loader processes of each process that encodes; ``auto`` for what the CPUs allow.
        devices: devices to encode on, each by a process of its own if there are several.
        precision: see ``vse_gpo.batch.in_precision``.

    Raises:
        VSEError: if there is no such precision.
    """

    batch_size: int
    workers: int | str
    devices: Sequence[torch.device]
    precision: int | str = 32

    def __post_init__(self) -> None:
        in_precision(self.devices[0], self.precision)


def encode_items(
    network: nn.Module,
    items: Dataset[Any],
    collate: Callable[[Any], Indexed | ReadBatch],
    encoding: Encoding,
    output: Callable[[Any], Float[Tensor, "batch ..."]] | None = None,
) -> Iterator[EncodedBatch]:
    """The output of every batch on the CPU, in order; the batches, and so the output, are the same on any devices.

    Args:
        network: put into eval mode, and onto the device if there is one.
        items: the data set; with several devices, what can be sent to other processes.
        collate: items → batch.
        encoding: batch size, devices and precision.
        output: picks the embeddings from what the network returns, if it returns more.

    Raises:
        VSEError: as the data set does; or if a process was lost.
    """
    network.eval()
    total = len(items)  # type: ignore[arg-type]
    count = -(-total // encoding.batch_size)
    processes = min(len(encoding.devices), count)
    share = _Share(network, items, total, collate, encoding, output)
    if processes <= 1:
        yield from share.encoded(0, 1)
        return
    with _started(share, processes) as pipes:
        for number in range(count):
            yield _received(pipes[number % processes], encoding.devices[number % processes])


@dataclass(frozen=True)
class _Share:
    """What each process needs to encode its share."""

    network: nn.Module
    items: Dataset[Any]
    total: int
    collate: Callable[[Any], Indexed | ReadBatch]
    encoding: Encoding
    output: Callable[[Any], Tensor] | None

    def encoded(self, rank: int, processes: int) -> Iterator[EncodedBatch]:
        """Every ``processes``-th batch, from the one numbered ``rank`` on."""
        how, device = self.encoding, self.encoding.devices[rank]
        starts = range(rank * how.batch_size, self.total, processes * how.batch_size)
        batches = loader(
            self.items,
            self.collate,
            workers=how.workers,
            device=device,
            processes=processes,
            batch_sampler=[range(start, min(start + how.batch_size, self.total)) for start in starts],
        )
        network = self.network.to(device)
        pick = self.output
        encode: Callable[[Any], Tensor] = network if pick is None else lambda inputs: pick(network(inputs))
        others: deque[tuple[Mapping[int, str], Sequence[Any]]] = deque()

        def readable() -> Iterator[Indexed]:
            for batch in batches:
                read = ReadBatch(*batch)
                others.append((read.skipped, read.facts))
                yield Indexed(read.inputs, read.rows)

        for embeddings, rows in encode_batches(encode, readable(), device, how.precision):
            yield EncodedBatch(each_tensor(Tensor.cpu, embeddings), rows, *others.popleft())


@contextmanager
def _started(share: _Share, processes: int) -> Iterator[list[Connection]]:
    """Processes that encode, and the pipes that their batches come from; a full pipe makes them wait."""
    context = torch.multiprocessing.get_context("spawn")  # a forked process could not use a GPU
    threads = max(1, torch.get_num_threads() // processes)
    started, pipes = [], []
    try:
        for rank in range(processes):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(there, share, rank, processes, threads))
            with full_memory_told():  # the weights are sent through it
                process.start()
            there.close()
            started.append(process)
            pipes.append(here)
        yield pipes
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _work(pipe: Connection, share: _Share, rank: int, processes: int, threads: int) -> None:
    """Send the encoded batches of a share, or the error that ended them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command's process ends this one
    torch.set_num_threads(threads)
    if share.encoding.devices[rank].type == "cuda":
        torch.cuda.set_device(share.encoding.devices[rank])
    try:
        for embeddings, rows, *others in share.encoded(rank, processes):
            sent = each_tensor(Tensor.numpy, embeddings)  # as bytes: shared memory may be small
            pipe.send((sent, rows.numpy(), *others))
    except VSEError as error:
        pipe.send(error)


def _received(pipe: Connection, device: torch.device) -> EncodedBatch:
    """The next batch of a process.

    Raises:
        VSEError: that of the process; or if it was lost.
    """
    try:
        sent = pipe.recv()
    except EOFError:
        raise VSEError(
            f"the process of {device} was lost; if it has told no reason, the memory may be used up: lower batch_size="
        ) from None
    if isinstance(sent, VSEError):
        raise sent
    embeddings, rows, *others = sent
    return EncodedBatch(each_tensor(torch.from_numpy, embeddings), torch.from_numpy(rows), *others)
