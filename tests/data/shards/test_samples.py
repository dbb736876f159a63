import json

import pytest

from vse_gpo.data.shards.members import Member
from vse_gpo.data.shards.samples import BrokenSample, ShardSample, samples

IMAGE = b"image"


def found(*files: tuple[str, bytes]) -> list[ShardSample | BrokenSample]:
    data = b"".join(content for _, content in files)
    starts = [sum(len(content) for _, content in files[:number]) for number in range(len(files))]
    listed = [Member(name, start, len(content)) for (name, content), start in zip(files, starts, strict=True)]
    return list(samples(listed, lambda offset, size: data[offset : offset + size], "s"))


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        (("a.txt", b"a  dog\r\n\n two dogs \n"), ["a dog", "two dogs"]),
        (("a.TXT", "\ufeffa dog".encode()), ["a dog"]),
        (("a.json", b'{"captions": ["a dog", " ", "two\\ndogs"], "caption": "no"}'), ["a dog", "two dogs"]),
        (("a.json", b'{"caption": "a dog", "url": "x", "captions": null}'), ["a dog"]),
        (("a.json", b'{"caption": ["a dog", "two"]}'), ["a dog", "two"]),
    ],
)
def test_captions_of_a_sample(text: tuple[str, bytes], captions: list[str]):
    assert found(("a.jpg", IMAGE), text) == [ShardSample("s/a", 0, 5, captions)]


def test_files_of_one_key_are_a_sample():
    texts = ("img/a.b.jpg", IMAGE), ("img/a.txt", b"one")  # the kind is what follows the first dot
    files = [*texts, ("img/a.WEBP", IMAGE), ("img/a.json", b"{"), ("img/a.cls", b"3"), ("./b.png", IMAGE)]
    first, second = found(*files, ("b.txt", b"two"), ("README.md", b""), (".hidden.jpg", b""), ("__info__.txt", b""))
    assert first == ShardSample("s/img/a", 8, 5, ["one"])  # a .txt counts where there is a .json too
    assert second.name == "s/b"


def test_the_image_id_of_a_json_names_a_sample():
    text = json.dumps({"image_id": 42, "captions": ["a dog"]}).encode()
    assert found(("0.jpg", IMAGE), ("0.json", text)) == [ShardSample("42", 0, 5, ["a dog"])]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ([("a.jpg", IMAGE)], "s/a: no caption, expected a .txt or .json beside the image"),
        ([("a.jpg", IMAGE), ("a.txt", b" \n")], "s/a: no caption in the .txt"),
        ([("a.jpg", IMAGE), ("a.json", b'{"url": "x"}')], "s/a: no caption in the .json"),
        ([("a.txt", b"a dog")], "s/a: no images, expected one"),
        ([("a.jpg", IMAGE), ("a.png", IMAGE), ("a.txt", b"a")], "s/a: 2 images (a.jpg, a.png), expected one"),
        ([("a.jpg", IMAGE), ("a.jpg", IMAGE), ("a.txt", b"a")], "s/a: 2 images (a.jpg, a.jpg), expected one"),
        ([("a.jpg", IMAGE), ("a.txt", b"a"), ("a.txt", b"b")], "s/a: two texts of one kind, expected one"),
        ([("a.jpg", b""), ("a.txt", b"a")], "s/a: the image is empty"),
        ([("a.jpg", IMAGE), ("a.txt", b"\xff")], "s/a: the .txt cannot be read ('utf-8' codec can't decode"),
        ([("a.jpg", IMAGE), ("a.json", b"{")], "s/a: the .json cannot be read (Expecting property name"),
        ([("a.jpg", IMAGE), ("a.json", b"[1]")], "s/a: the .json cannot be read (found list, expected an object)"),
        ([("a.jpg", IMAGE), ("a.json", b'{"caption": 3}')], "s/a: the .json cannot be read (expected captions as"),
        ([("a.jpg", IMAGE), ("a.json", b'{"caption": "\\ud800"}')], "s/a: the .json cannot be read ('utf-8' codec"),
    ],
)
def test_a_broken_sample_is_named(files: list[tuple[str, bytes]], line: str):
    [broken] = found(*files)
    assert isinstance(broken, BrokenSample)
    assert broken.line.startswith(line)


def test_a_key_that_came_before_is_left_out():
    twice = ("a.jpg", IMAGE), ("a.txt", b"one")
    first, second, third = found(*twice, ("b.jpg", IMAGE), ("b.txt", b"b"), *twice)
    assert [first.name, second.name] == ["s/a", "s/b"]
    assert third == BrokenSample("s/a: the key came before, expected it once")
