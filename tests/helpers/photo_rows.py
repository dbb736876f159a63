"""Rows of an index's table, made up: what conditions on photos are tested on."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa

CAMERAS = (None, "Apple iPhone 13", "Apple iPhone SE", "NIKON D750", "SONY ILCE-7M3", "O'Neill 100% _x")
FOLDERS = ("", "2023/", "2023/vienna/", "2023_b/", "it's/", "Ä ö/")
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("bytes", pa.int64()),
        ("modified", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("date", pa.timestamp("us")),
        ("camera", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]
)


def photo_rows(count: int = 500, seed: int = 0) -> list[dict[str, Any]]:
    """Photos from anywhere, and some of which nothing is known; many lie at the edges of months and years."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        year, month = int(random.integers(2021, 2026)), int(random.integers(1, 13))
        first = datetime(year, month, 1)
        date = first + timedelta(seconds=int(random.choice([0, -1, 1, random.integers(28 * 86400)])))
        known, placed = random.random() < 0.85, random.random() < 0.8
        near_vienna = random.random() < 0.5
        latitude = random.normal(48.21, 0.05) if near_vienna else random.uniform(-90, 90)
        longitude = random.normal(16.37, 0.08) if near_vienna else random.uniform(-180, 180)
        rows.append(
            {
                "file": f"{random.choice(FOLDERS)}{number}.jpg",
                "bytes": int(random.integers(1, 10**7)),
                "modified": int(random.integers(10**18, 2 * 10**18)),
                "width": int(random.choice([640, 3024, 4000, 4032])),
                "height": int(random.choice([480, 3024, 4000, 12000])),
                "date": date if known else None,
                "camera": CAMERAS[random.integers(len(CAMERAS))],
                "latitude": float(latitude) if placed else None,
                "longitude": float(longitude) if placed else None,
            }
        )
    return rows


def photo_table(folder: Path, rows: list[dict[str, Any]]) -> lance.LanceDataset:
    """The rows in a table of Lance."""
    return lance.write_dataset(pa.Table.from_pylist(rows, SCHEMA), str(folder))
