"""The API of an index under load: time of the answers, and processor time and memory of the server."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlencode

from benchmarks.measure import Measured
from vse_gpo.errors import VSEError

CLIENTS, REQUESTS = 16, 200  # of each
ALONE, PARTS = 1000, 4  # requests of one client, over which memory is watched
THINGS = ("circle", "square", "star", "heart", "moon")
STATES = ("red", "blue", "green", "yellow", "large", "small")
PATIENCE = 300  # seconds


def serving(index: str) -> list[Measured]:
    """Texts, similar images and thumbnails are asked for in turn, by many clients at once and then by one."""
    columns = ["", "requests", "errors", "p50 ms", "p95 ms", "most", "per s", "CPU ms", "MiB"]
    with server(index) as (pid, port):
        texts = [f"/api/search?{urlencode({'query': f'a {state} {thing}'})}" for state in STATES for thing in THINGS]
        files = [quote(hit["file"]) for hit in json.loads(ask(HTTPConnection("127.0.0.1", port), texts[0])[1])["hits"]]
        texts += [f"{place}&rerank=auto" for place in texts]
        images = [f"/api/{kind}?file={file}" for file in files for kind in ("similar", "thumbnail")]
        mixed = [place for pair in zip(texts, 3 * images, strict=True) for place in pair]
        rows: list[list[object]] = [[f"{CLIENTS} clients", *load(pid, port, mixed, CLIENTS, REQUESTS)]]
        for part in range(1, PARTS + 1):
            name = f"one, to {part * ALONE // PARTS:,}"
            rows.append([name, *load(pid, port, mixed, 1, ALONE // PARTS)])
    return [Measured(f"{CLIENTS} clients × {REQUESTS} requests at once, then one × {ALONE:,}", columns, rows)]


@contextmanager
def server(index: str) -> Iterator[tuple[int, int]]:
    """A page of an index in a process of its own: its id and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vse_gpo.app", f"index={index}", f"port={port}", "accelerator=cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise VSEError(f"index={index}: its page was not served")
            yield process.pid, port
        finally:
            process.terminate()


def ask(connection: HTTPConnection, place: str) -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection.request("GET", place)
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(pid: int, port: int, places: Sequence[str], clients: int, count: int) -> list[float]:
    """Requests and errors; milliseconds of a median, a 95th percentile and the slowest; requests a second; the server's
    CPU milliseconds for one, and its memory in MiB."""

    def client(number: int) -> list[tuple[bool, float]]:
        connection, found = HTTPConnection("127.0.0.1", port, timeout=PATIENCE), []
        for turn in range(count):
            start = time.perf_counter()
            status, _ = ask(connection, places[(7 * number + turn) % len(places)])
            found.append((status != 200, 1000 * (time.perf_counter() - start)))
        connection.close()
        return found

    start, before = time.perf_counter(), processor_seconds(pid)
    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for found in pool.map(client, range(clients)) for answer in found]
    rate = len(answers) / (time.perf_counter() - start)
    taken = sorted(milliseconds for _, milliseconds in answers)
    times = [taken[len(taken) // 2], taken[len(taken) * 95 // 100], taken[-1]]
    processor = 1000 * (processor_seconds(pid) - before) / len(answers)
    return [len(answers), sum(failed for failed, _ in answers), *times, rate, processor, resident(pid)]


def processor_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
