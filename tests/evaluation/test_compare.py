"""Two evaluations, query by query: what both have, and what cannot be compared."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.compare import compare_evaluations, gap_table
from vse_gpo.evaluation.query_files import read_queries
from vse_gpo.evaluation.results import write_results
from vse_gpo.evaluation.scoring import score
from vse_gpo.retrieval.embeddings import encoded

IMAGES = 60


def evaluated(folder: Path, *, noise: float, images: int = IMAGES, protocols: tuple[str, ...] = ("all",)) -> Path:
    """An evaluation of captions that lie near their image."""
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(images, 16, generator=draws)
    captions = rows.repeat_interleave(2, 0) + noise * torch.randn(2 * images, 16, generator=draws)
    ids = [str(row) for row in range(images)]
    test = encoded(rows, captions, caption_to_image=np.arange(images).repeat(2), image_ids=ids)
    write_results(folder, score({folder.name: test}, protocols, read_annotations(protocols)), {folder.name: test})
    return folder


def compare(first: Path, second: Path, protocol: str | None = None, against: str | None = None) -> None:
    compare_evaluations(first=str(first), second=str(second), protocol=protocol, against=against, seed=0)


def line_of(printed: str, metric: str) -> str:
    return next(line for line in printed.splitlines() if metric in line)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_a_worse_model_differs_and_a_model_from_itself_does_not(tmp_path, capsys):
    sharp, blurred = evaluated(tmp_path / "sharp", noise=0.5), evaluated(tmp_path / "blurred", noise=3.0)
    compare(sharp, blurred)
    printed = capsys.readouterr().out
    assert "differ" in line_of(printed, "rSum")
    assert "-" in line_of(printed, "rSum")  # the second one scores less
    compare(sharp, sharp)
    assert "not shown" in line_of(capsys.readouterr().out, "rSum")


def test_the_widest_numbers_fit_eighty_columns(tmp_path):
    sharp, lost = evaluated(tmp_path / "sharp", noise=0.01), evaluated(tmp_path / "lost", noise=100.0)
    one, other = (read_queries(folder).outcomes["all"] for folder in (sharp, lost))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(gap_table("all", one, other, IMAGES, 0))
    found = {line.split()[0]: line.split() for line in console.export_text().splitlines() if "differ" in line}
    assert len(found) == 3  # rSum, and two directions with several rows
    assert found["rSum"][1] == "600.00"
    assert found["rSum"][-1] == "differ"
    assert "…" not in console.export_text()


def test_one_protocol_or_all_that_both_have(tmp_path, capsys):
    both = evaluated(tmp_path / "both", noise=1.0, images=1000, protocols=("all", "f30k_1k"))
    one = evaluated(tmp_path / "one", noise=1.0, images=1000, protocols=("f30k_1k",))
    compare(both, both)
    printed = capsys.readouterr().out
    assert "all · " in printed
    assert "f30k_1k · " in printed
    compare(both, one)
    printed = capsys.readouterr().out
    assert "f30k_1k · " in printed
    assert "all · " not in printed
    with pytest.raises(VSEError, match="no protocol to compare; evaluate both on one test set"):
        compare(both, one, protocol="all")


def test_two_protocols_of_the_same_queries(tmp_path, capsys):
    worse = evaluated(tmp_path / "worse", noise=2.0, images=1000, protocols=("all", "f30k_1k"))
    better = evaluated(tmp_path / "better", noise=1.0, images=1000, protocols=("all", "f30k_1k"))
    compare(worse, better, protocol="all")
    expected = line_of(capsys.readouterr().out, "rSum")
    compare(worse, better, protocol="all", against="f30k_1k")
    printed = capsys.readouterr().out
    assert line_of(printed, "rSum") == expected  # all that there are is these 1,000
    lines = "".join(printed.split())  # long paths are wrapped
    assert lines.startswith("all·")
    assert "/better·f30k_1k" in lines
    with pytest.raises(VSEError, match=r"against=f30k_1k, but no protocol=NAME of the first"):
        compare(worse, better, against="f30k_1k")
    with pytest.raises(VSEError, match="no protocol to compare"):
        compare(worse, better, protocol="all", against="coco_5k")


def test_other_test_sets_are_refused(tmp_path):
    one, other = evaluated(tmp_path / "one", noise=1.0), evaluated(tmp_path / "other", noise=1.0, images=IMAGES + 1)
    with pytest.raises(VSEError, match=rf"one has {IMAGES} images and all, .*other has {IMAGES + 1} and all"):
        compare(one, other)
    with pytest.raises(VSEError, match="no evaluation of one model"):
        compare(one, tmp_path)
