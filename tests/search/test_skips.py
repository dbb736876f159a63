"""What was left out is told by kind."""

from collections import Counter

from vse_gpo.search.skips import skipped_lines


def test_what_was_left_out_is_told_by_kind():
    heic = "a HEIC photo, which needs pillow-heif (pip install 'vse_gpo[search]')"
    skipped = {
        **{f"IMG_{number}.HEIC": heic for number in range(1000, 2200)},
        "b.jpg": "cannot be decoded (not an image, 17 bytes)",
        "a.jpg": "cannot be decoded (not an image, 4 bytes)",
        "c.png": "cannot be decoded (not an image, 17 bytes)",
        "closed": "permission denied",
        "caf\udce9.jpg": "its name is not UTF-8; rename it",
    }
    assert skipped_lines(skipped, Counter({".mov": 1, ".txt": 2000, "without a suffix": 3})) == [
        f"skipped 1,200 .heic: {heic}: {', '.join(f'IMG_{number}.HEIC' for number in range(1000, 1010))}, …",
        "skipped 2 .jpg: cannot be decoded (not an image, 4 bytes): a.jpg, b.jpg",
        "skipped c.png: cannot be decoded (not an image, 17 bytes)",
        "skipped caf\\udce9.jpg: its name is not UTF-8; rename it",
        "skipped closed: permission denied",
        "skipped 2,004 files that are no images: 2,000 .txt, 3 without a suffix, 1 .mov",
    ]
    assert skipped_lines({}, {}) == []
