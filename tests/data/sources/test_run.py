"""Every form of a data set gives the same folder, and a form that is wrong is refused in one line."""

import csv
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from vse_gpo import prepare as door
from vse_gpo.data.files import find_images, read_listing
from vse_gpo.data.sources.run import prepare
from vse_gpo.errors import VSEError

IMAGES = 60
WORDS = ("a dog, asleep", 'a "red" ball', "zwei Vögel", "a cat [seen] from; above", "two — or three — boats")
CAPTIONS = {f"{row:02d}.jpg": [f"{WORDS[(row + n) % 5]} {n}" for n in range(1 + row % 5)] for row in range(IMAGES)}
ROWS = [(name, caption) for name, captions in CAPTIONS.items() for caption in captions]
SPLITS = {"train": 40, "val": 10, "test": 10}
SPLIT_OF = dict(zip(CAPTIONS, [split for split, count in SPLITS.items() for _ in range(count)], strict=True))


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """Sixty small images."""
    random = np.random.default_rng(0)
    found = {}
    for name in CAPTIONS:
        file = io.BytesIO()
        Image.fromarray(random.integers(256, size=(6, 8, 3), dtype=np.uint8)).save(file, "jpeg")
        found[name] = file.getvalue()
    return found


def run(source: Path, out: Path, **settings: str) -> None:
    columns = dict.fromkeys(("image_column", "caption_column", "split_column", "layout"))
    prepare(source=str(source), out=str(out), seed=0, **columns | settings)


def content(out: Path, split: str = "test") -> dict[str, bytes]:
    """All that a data set reads from a folder; a list leaves its images to the user."""
    if not (out / "images").exists():
        (out / "images").symlink_to(out.parent / "images")
    mapping = json.loads((out / "id_mapping.json").read_text(encoding="utf-8"))
    files = [*sorted((out / "precomp").iterdir()), out / "id_mapping.json"]
    files += [out / "images" / name for name in mapping.values()]
    find_images(out, "images", read_listing(out, split))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


# each writes the images and captions of one form into a folder, and gives what vse-prepare is called with


def table(folder: Path, header: Iterable[str], delimiter: str, **style: int) -> Path:
    with (folder / "list").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter, **style)
        rows.writerows([list(header), *ROWS])
    return folder / "list"


def plain(folder: Path, header: str, delimiter: str) -> Path:
    """Without quotes."""
    lines = [header, *(delimiter.join(row) for row in ROWS)]
    return text(folder / "list", "\n".join(lines) + "\n")


def text(path: Path, words: str) -> Path:
    path.write_text(words, encoding="utf-8")
    return path


def bars(folder: Path) -> Path:
    lines = [f"{name}| {n}| {caption}" for name, own in CAPTIONS.items() for n, caption in enumerate(own)]
    return text(folder / "results.csv", "\n".join(["image_name| comment_number| comment", *lines]))


def token(folder: Path) -> Path:
    lines = [f"{name}#{n}\t{caption}" for name, own in CAPTIONS.items() for n, caption in enumerate(own)]
    return text(folder / "results.token", "\n".join(lines))


def json_lines(folder: Path) -> Path:
    lines = [json.dumps({"url": "x", "file_name": name, "text": caption}) for name, caption in ROWS]
    return text(folder / "list.jsonl", "\n".join(lines))


def blip(folder: Path) -> Path:
    return text(folder / "list.json", json.dumps([{"image": name, "caption": own} for name, own in CAPTIONS.items()]))


def blip_pairs(folder: Path) -> Path:
    rows = [{"caption": caption, "image": name, "image_id": f"flickr_{name}"} for name, caption in ROWS]
    return text(folder / "list.json", json.dumps(rows))


def hub_table(folder: Path) -> Path:
    """A column of lists, as nlphuji/flickr30k has it."""
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("raw", "filename"), *((json.dumps(own), name) for name, own in CAPTIONS.items())])
    return folder / "list.csv"


def coco(folder: Path) -> Path:
    images = [{"id": name, "file_name": name} for name in CAPTIONS]
    annotations = [{"image_id": name, "caption": caption} for name, caption in reversed(ROWS)]
    annotations.reverse()
    return text(folder / "captions.json", json.dumps({"images": images, "annotations": annotations}))


def karpathy(folder: Path) -> Path:
    images = [
        {"imgid": name, "filename": name, "split": None, "sentences": [{"raw": caption} for caption in own]}
        for name, own in CAPTIONS.items()
    ]
    return text(folder / "dataset.json", json.dumps({"images": images, "dataset": "mine"}))


def parquet_paths(folder: Path) -> Path:
    names, captions = zip(*ROWS, strict=True)
    parquet.write_table(pa.table({"Image": names, "caption": captions}), folder / "list.parquet", row_group_size=50)
    return folder / "list.parquet"


def parquet_images(folder: Path) -> Path:
    """As Hugging Face writes its images, in several files."""
    files = {name: (folder / "images" / name).read_bytes() for name in CAPTIONS}
    (folder / "hub").mkdir()
    for shard in range(3):
        names = list(CAPTIONS)[20 * shard : 20 * (shard + 1)]
        rows = {
            "image": [{"bytes": files[name], "path": name} for name in names],
            "txt": [CAPTIONS[name] for name in names],
        }
        parquet.write_table(pa.table(rows), folder / "hub" / f"data-{shard:05d}-of-00003.parquet", row_group_size=7)
    return folder / "hub"


def tars(folder: Path) -> Path:
    (folder / "tars").mkdir()
    for shard in range(3):
        with tarfile.open(folder / "tars" / f"shard-{shard:03d}.tar", "w") as tar:
            for name in list(CAPTIONS)[20 * shard : 20 * (shard + 1)]:
                add(tar, name, (folder / "images" / name).read_bytes())
                if shard == 1:
                    add(tar, name.replace("jpg", "json"), json.dumps({"caption": CAPTIONS[name]}).encode())
                else:
                    add(tar, name.replace("jpg", "txt"), "\n".join(CAPTIONS[name]).encode())
    return folder / "tars"


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def braces(folder: Path) -> Path:
    return tars(folder) / "shard-{000..002}.tar"


def stars(folder: Path) -> Path:
    return tars(folder) / "shard-*.tar"


def image_folder(folder: Path) -> Path:
    (folder / "images" / "metadata.csv").write_bytes(table(folder, ("file_name", "text"), ",").read_bytes())
    return folder / "images"


def texts(folder: Path) -> Path:
    for name, own in CAPTIONS.items():
        text(folder / "images" / name.replace("jpg", "txt"), "\n".join(own))
    return folder / "images"


FORMS: dict[str, Callable[[Path], Path]] = {
    "commas": lambda folder: table(folder, ("image", "caption"), ","),
    "semicolons": lambda folder: table(folder, ("Filename", "Comment"), ";", quoting=csv.QUOTE_ALL),
    "tabs": lambda folder: plain(folder, "PATH\tSentence", "\t"),
    "results.csv": bars,
    "token": token,
    "JSON lines": json_lines,
    "BLIP": blip,
    "BLIP's pairs": blip_pairs,
    "lists in a table": hub_table,
    "COCO": coco,
    "Karpathy": karpathy,
    "Parquet": parquet_paths,
    "Parquet with images": parquet_images,
    "tars": tars,
    "tars by braces": braces,
    "tars by stars": stars,
    "metadata.csv": image_folder,
    "text files": texts,
}
COLUMNS = {"Parquet with images": {"caption_column": "TXT"}}  # which nobody would guess


@pytest.fixture(scope="module")
def expected(contents, tmp_path_factory) -> dict[str, bytes]:
    """What the first form gives, with the images in place."""
    folder = tmp_path_factory.mktemp("expected")
    run(FORMS["commas"](with_images(folder, contents)), folder / "out")
    found = content(folder / "out")
    assert {found[f"images/{name}"] for name in CAPTIONS} == set(contents.values())
    lines = b"".join(found[f"precomp/{split}_caps.txt"] for split in ("train", "dev", "test")).decode().splitlines()
    assert sorted(lines) == sorted(caption for _, caption in ROWS)
    return found


def with_images(folder: Path, contents: dict[str, bytes]) -> Path:
    (folder / "images").mkdir()
    for name, data in contents.items():
        (folder / "images" / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_the_same_images_gives_the_same_folder(form, contents, expected, tmp_path, capsys):
    source = FORMS[form](with_images(tmp_path, contents))
    for _ in range(2):  # what is there already stays
        run(source, tmp_path / "out", **COLUMNS.get(form, {}))
        assert content(tmp_path / "out") == expected
    shown = capsys.readouterr().out
    assert "left out" not in shown
    assert shown.startswith("read as ")
    assert "\ntrain: 48 images, " in shown


@pytest.mark.parametrize("form", ["parquet", "tar", "folders", "blip"])
def test_names_of_files_and_folders_tell_the_split(form, contents, tmp_path):
    for split in SPLITS:
        names = [name for name in CAPTIONS if SPLIT_OF[name] == split]
        if form == "parquet":
            images = [{"bytes": contents[name], "path": name} for name in names]
            rows = pa.table({"image": images, "caption": [CAPTIONS[name] for name in names]})
            parquet.write_table(rows, tmp_path / f"{split}-00000-of-00001.parquet")
        elif form == "tar":
            with tarfile.open(tmp_path / f"{split}.tar", "w") as tar:
                for name in names:
                    add(tar, name, contents[name])
                    add(tar, name.replace("jpg", "txt"), CAPTIONS[name][0].encode())
        elif form == "folders":
            (tmp_path / split).mkdir()
            for name in names:
                (tmp_path / split / name).write_bytes(contents[name])
            lines = [json.dumps({"file_name": name, "text": CAPTIONS[name][0]}) for name in names]
            text(tmp_path / split / "metadata.jsonl", "\n".join(lines))
        else:
            rows = [{"image": name, "caption": CAPTIONS[name]} for name in names]
            text(tmp_path / f"coco_karpathy_{split}.json", json.dumps(rows))
    run(tmp_path, tmp_path / "out")
    for split, count in {"train": 40, "dev": 10, "test": 10}.items():
        assert len(read_listing(tmp_path / "out", split).image_ids) == count


@pytest.mark.parametrize(
    ("dataset", "layout", "test", "folder"),
    [
        ("coco", "coco", "testall", "images"),
        ("flickr30k", "f30k", "test", "flickr30k-images"),
        ("flickr8k", "f8k", "test", "flickr30k-images"),
    ],
)
def test_karpathys_splits_are_laid_out_as_their_data_set_reads_them(dataset, layout, test, folder, tmp_path, capsys):
    """COCO: restval trains, ids are COCO's, of six or seven captions the first five count, in the order of the file."""
    splits = ["test", "restval", "val", "test", "train"]
    images = [
        {
            "imgid": row,
            "filename": f"{row}.jpg",
            "split": split,
            "sentences": [{"raw": f"{row} {n}"} for n in range(5 + row)],
        }
        | ({"cocoid": 90 - row, "filepath": "val2014"} if dataset == "coco" else {})
        for row, split in enumerate(splits)
    ]
    text(tmp_path / "dataset.json", json.dumps({"images": images, "dataset": dataset}))
    (tmp_path / "somewhere" / ("val2014" if dataset == "coco" else "")).mkdir(parents=True)
    (tmp_path / "somewhere" / ("val2014" if dataset == "coco" else "") / "0.jpg").write_bytes(b"")
    run(tmp_path / "dataset.json", tmp_path / "out")
    listing = read_listing(tmp_path / "out", test)
    assert listing.image_ids == (["90", "87"] if dataset == "coco" else ["0", "3"])
    assert listing.captions == [f"{row} {n}" for row in (0, 3) for n in range(5)]
    assert len(read_listing(tmp_path / "out", "train").image_ids) == 2
    mapping = json.loads((tmp_path / "out" / "id_mapping.json").read_text(encoding="utf-8"))
    assert mapping["90" if dataset == "coco" else "0"] == ("val2014/0.jpg" if dataset == "coco" else "0.jpg")
    shown = capsys.readouterr().out
    assert (
        f"images: found in {tmp_path / 'somewhere'}; ln -s {tmp_path / 'somewhere'} {tmp_path / 'out' / folder}"
        in shown
    )
    assert f"laid out for dataset={layout}\n" in shown
    assert f"10 captions left out: {layout} counts the first 5 of each image" in shown
    assert f"{test}: 2 images, 10 captions" in shown


def test_what_is_left_out_is_counted_and_the_first_ones_are_shown(tmp_path, capsys):
    rows = [f"{row}.jpg,{'' if row < 12 else 'a dog'}" for row in range(40)]
    run(text(tmp_path / "c.csv", "\n".join(["image,caption", *rows])), tmp_path / "out")
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "12 left out or changed, the first 10:"
    assert shown[2] == "  line 2: blank caption, left out"
    assert shown[12] == "train: 22 images, 22 captions"
    place = tmp_path / "out" / "images"
    assert shown[-1] == f"images: put them into {place}, or a link to their folder; the first is 12.jpg"


# what is wrong


def with_sample(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def cut(path: Path, by: int) -> Path:
    path.write_bytes(path.read_bytes()[:-by])
    return path


def overwritten(path: Path, place: int) -> Path:
    data = bytearray(path.read_bytes())
    data[place : place + 40] = b"x" * 40
    path.write_bytes(data)
    return path


def struct(path: Path, images: list[dict[str, object]], caption: str | None = "a dog") -> Path:
    parquet.write_table(pa.table({"image": images, "caption": [caption] * len(images)}), path)
    return path


MANY = [(f"{n}.{kind}", b"x" * 2000) for n in range(9) for kind in ("jpg", "txt")]
SAMPLE = [("1.jpg", b"\xff\xd8\xff"), ("1.txt", b"a dog"), ("2.jpg", b"\xff\xd8\xff"), ("2.txt", b"a cat")]
WRONG: dict[str, tuple[Callable[[Path], Path], str]] = {
    "Parquet cut off": (lambda folder: cut(parquet_paths(folder), 40), r"list\.parquet: not a whole Parquet file"),
    "Parquet without captions": (
        lambda folder: struct(folder / "p", [{"bytes": b"x", "path": "a.jpg"}], None),
        "p: no caption left of its rows, first: p row 1: no caption, left out",
    ),
    "two images of one path": (
        lambda folder: struct(folder / "p", [{"bytes": bytes([n]), "path": f"{n % 9}"} for n in range(10)]),
        "two images are called 0, expected a name for each",
    ),
    "no bytes": (
        lambda folder: struct(folder / "p", [{"bytes": b"x" if n else None, "path": f"{n}"} for n in range(10)]),
        "no image '0' in the source, though captions name it",
    ),
    "an image outside": (
        lambda folder: with_sample(folder / "t.tar", *((f"../{name}", data) for name, data in MANY)),
        r"image '\.\./0\.jpg' lies outside the folder",
    ),
    "a tar cut off in an image": (lambda folder: cut(with_sample(folder / "t.tar", *MANY), 12000), "not a whole tar"),
    "a tar cut off in a header": (lambda folder: cut(with_sample(folder / "t.tar", *SAMPLE), 9000), "at byte 1,024"),
    "tar damaged": (
        lambda folder: overwritten(with_sample(folder / "t.tar", *SAMPLE), 2048 + 100),
        r"t\.tar: damaged at byte 2,048",
    ),
    "a key twice": (lambda folder: with_sample(folder / "t.tar", *SAMPLE, *SAMPLE[:2]), "sample 1 comes twice"),
    "two images in a sample": (
        lambda folder: with_sample(folder / "t.tar", SAMPLE[0], ("1.png", b"x"), SAMPLE[1]),
        r"sample 1 has two images, 1\.jpg and 1\.png, expected one",
    ),
    "a sample without a caption": (
        lambda folder: with_sample(folder / "t.tar", SAMPLE[0]),
        r"no caption left of its rows, first: t\.tar: sample 1: no caption, left out",
    ),
    "a sample without an image": (
        lambda folder: with_sample(folder / "t.tar", SAMPLE[1]),
        "sample 1: no image, left out",
    ),
    "a sample of broken JSON": (
        lambda folder: with_sample(folder / "t.tar", SAMPLE[0], ("1.json", b"{")),
        r"t\.tar: sample 1: its caption cannot be read",
    ),
    "no such column": (
        lambda folder: text(folder / "c.jsonl", '{"a": "x"}\n{"b": "y"}'),
        "found 'a', 'b'; set image_column=",
    ),
    "an empty folder": (lambda folder: folder, "no captions in it, expected a caption list"),
    "several lists": (
        lambda folder: text(folder / "b.json", text(folder / "a.json", "{}").read_text()).parent,
        r"several caption lists, a\.json, b\.json; name one of them",
    ),
    "a zip": (lambda folder: text(folder / "c.zip", "PK\x03\x04"), r"c\.zip: a zip archive; unpack it"),
    "braces without files": (lambda folder: folder / "s-{00..01}.tar", r"s-00\.tar: cannot be read \(no such file"),
    "a split that is empty": (
        lambda folder: struct(folder / "p", [{"bytes": b"x", "path": "0"}]),
        "no image in split dev, expected some; 1 images in all",
    ),
    "a layout that is none": (
        lambda folder: text(folder / "c", "image,caption\na,b"),
        "layout=coko .did you mean coco",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_and_nothing_is_written(case, tmp_path):
    write, message = WRONG[case]
    (tmp_path / "source").mkdir()
    settings = {"layout": "coko"} if "layout" in case else {}
    with pytest.raises(VSEError, match=message) as error:
        run(write(tmp_path / "source"), tmp_path / "out", **settings)
    assert len(str(error.value).splitlines()) == 1
    assert not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


def test_an_image_folder_that_holds_others_is_left_as_it_is(contents, tmp_path):
    source = tars(with_images(tmp_path, contents))
    run(source, tmp_path / "out")
    (tmp_path / "out" / "images" / "07.jpg").write_bytes(b"another")
    with pytest.raises(VSEError, match=r"images: is there and holds no such 07\.jpg; name a new folder"):
        run(source, tmp_path / "out")
    assert (tmp_path / "out" / "images" / "07.jpg").read_bytes() == b"another"


def test_the_command_takes_names_of_columns_and_reports_in_one_line(tmp_path, monkeypatch, capsys):
    source = text(tmp_path / "c.csv", "photo,title\n" + "".join(f"{row},a dog\n" for row in range(20)))
    typed = ["vse-prepare", str(source), str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*typed])
    with pytest.raises(SystemExit, match="1"):
        door.main()
    assert capsys.readouterr().err == (
        f"error: {source}: no column for image and caption, found 'photo', 'title'; "
        "set image_column= and caption_column=\n"
    )
    monkeypatch.setattr(sys, "argv", [*typed, "image_column=photo", "caption_column=Title"])
    door.main()
    assert "image from 'photo', caption from 'title', no split" in capsys.readouterr().out
