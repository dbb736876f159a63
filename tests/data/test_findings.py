"""Findings as a table, and what they come to."""

import pytest

from vse_gpo.data.addresses import Address
from vse_gpo.data.findings import RUN, UNCHECKED, Finding, print_findings, verdict
from vse_gpo.errors import VSEError


def findings(**problems: str) -> list[Finding]:
    return [
        Finding(split=split, part=part, expected="", problem=problems.get(f"{split}_{part}"))
        for split in ("train", "dev")
        for part in ("captions", "features", "images")
    ]


@pytest.mark.parametrize(
    ("problems", "inputs", "line"),
    [
        ({}, "any", "ready to train region backbones and grid backbones"),
        (
            {"dev_images": "gone"},
            "any",
            "ready to train region backbones; grid backbones lack images of dev",
        ),
        ({"dev_images": "gone"}, "features", "ready to train region backbones; grid backbones lack images of dev"),
        (
            {"train_features": "gone", "dev_features": "gone"},
            "images",
            "ready to train grid backbones; region backbones lack features of train, dev",
        ),
    ],
)
def test_enough_to_train(problems: dict[str, str], inputs: str, line: str) -> None:
    assert verdict(findings(**problems), inputs) == line


@pytest.mark.parametrize(
    ("problems", "inputs", "missing"),
    [
        ({"dev_images": "gone"}, "images", "images of dev"),
        ({"train_features": "gone", "dev_images": "gone"}, "any", "features of train or images of dev"),
        ({"dev_captions": "gone", "dev_features": UNCHECKED, "dev_images": UNCHECKED}, "any", "captions of dev"),
        ({"dev_captions": "gone"}, "any", "captions of dev"),
    ],
)
def test_not_enough_to_train(problems: dict[str, str], inputs: str, missing: str) -> None:
    with pytest.raises(VSEError, match=f"^missing or wrong for training: {missing}$"):
        verdict(findings(**problems), inputs)


def test_parts_of_the_run_count_unless_they_are_optional():
    lacking = [Finding(split=RUN, part="weights", expected="", problem="gone", optional=True)]
    assert verdict([*findings(), *lacking], "any").startswith("ready")
    lacking += [Finding(split=RUN, part="vocabulary", expected="", problem="gone")]
    with pytest.raises(VSEError, match=r"^missing or wrong for training: vocabulary$"):
        verdict([*findings(), *lacking], "any")


def test_names_with_brackets_and_escapes_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding(
        split="a[b]", part="images", expected="3 files in [red]/", found="\x1b[2J", problem="no [c]\u202e"
    )
    source = Address(what="[w]", address="http://a/[b]", seen="2026-01-02", size=2_000_000, command="get [x]\x1b")
    print_findings("[t]", [finding], {"images": "from [d]"}, {"images": [source]}, "fetch")
    shown = capsys.readouterr().out
    for text in ("a[b]", "[red]/", "\\x1b[2J", "no [c]\\u202e", "[t]", "from [d]", "get [x]\\x1b"):
        assert text in shown
    assert "from [w], 2.0 MB: http://a/[b] (seen 2026-01-02)" in shown
    assert "\x1b" not in shown
