"""A small RAW photo, written byte by byte: an uncompressed DNG, with or without a preview."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

BYTE, ASCII, SHORT, LONG, SRATIONAL = 1, 2, 3, 4, 10
Entry = tuple[int, int, Sequence[int] | bytes]


def directory(entries: Sequence[Entry], start: int) -> bytes:
    """A directory of a little-endian TIFF at an offset, with the values that do not fit into it behind it."""
    table, values = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, kind, value in sorted(entries):
        if isinstance(value, bytes):
            data, count = value, len(value)
        elif kind == SRATIONAL:
            data, count = struct.pack(f"<{len(value)}i", *value), len(value) // 2
        else:
            data, count = struct.pack(f"<{len(value)}{'BXHI'[kind - 1]}", *value), len(value)
        if len(data) > 4:
            place = behind + len(values)
            values += data + b"\0" * (len(data) % 2)
            data = struct.pack("<I", place)
        table += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", 0) + values


def write_dng(path: Path, scene: Image.Image, *, preview: Image.Image | None = None, orientation: int = 1) -> Path:
    """A DNG of a scene as a sensor behind a Bayer filter (RGGB) sees it: linear, 16 bits.

    Args:
        path: of the file.
        scene: of even width and height.
        preview: stored as a JPEG.
        orientation: of EXIF.
    """
    linear = (np.asarray(scene.convert("RGB")) / 255.0) ** 2.2
    sensor = linear[..., 1].copy()
    sensor[::2, ::2], sensor[1::2, 1::2] = linear[::2, ::2, 0], linear[1::2, 1::2, 2]
    pixels = (sensor * 60000).astype("<u2").tobytes()
    jpeg = io.BytesIO()
    if preview is not None:
        preview.save(jpeg, "JPEG", quality=95)
    shown = jpeg.getvalue()
    start = 8 + len(pixels) + len(shown) + len(shown) % 2
    width, height = scene.size
    base: list[Entry] = [
        (254, LONG, [0]), (256, LONG, [width]), (257, LONG, [height]), (258, SHORT, [16]), (259, SHORT, [1]),
        (262, SHORT, [32803]), (271, ASCII, b"Own\0"), (272, ASCII, b"Sensor 1\0"), (273, LONG, [8]),
        (274, SHORT, [orientation]), (277, SHORT, [1]), (278, LONG, [height]), (279, LONG, [len(pixels)]),
        (306, ASCII, b"2024:05:06 07:08:09\0"), (33421, SHORT, [2, 2]), (33422, BYTE, [0, 1, 1, 2]),
        (50706, BYTE, [1, 4, 0, 0]), (50707, BYTE, [1, 1, 0, 0]), (50708, ASCII, b"Own Sensor 1\0"),
        (50717, LONG, [60000]), (50778, SHORT, [21]),
        # from XYZ to the sensor's colours: those of sRGB
        (50721, SRATIONAL, [v for x in (3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0572)
                            for v in (round(x * 10000), 10000)]),
    ]  # fmt: skip
    if preview is None:
        place = b""
    else:
        base.append((330, LONG, [0]))
        after = start + len(directory(base, start))
        base[-1] = (330, LONG, [after])
        place = directory(
            [
                (254, LONG, [1]), (256, LONG, [preview.width]), (257, LONG, [preview.height]),
                (258, SHORT, [8, 8, 8]), (259, SHORT, [7]), (262, SHORT, [6]), (273, LONG, [8 + len(pixels)]),
                (277, SHORT, [3]), (278, LONG, [preview.height]), (279, LONG, [len(shown)]),
            ],
            after,
        )  # fmt: skip
    body = pixels + shown + b"\0" * (len(shown) % 2)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + body + directory(base, start) + place)
    return path
