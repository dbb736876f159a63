"""Dense captions: long descriptions of the training images, such as a captioning model writes."""

from pathlib import Path

from vse_gpo.data.files import read_lines
from vse_gpo.errors import VSEError


def read_dense(path: Path, images: int) -> list[list[str]]:
    """Dense captions of each image, from a file with the same number of lines for each, in the order of the images.

    Args:
        path: UTF-8, one description per line.
        images: number of images of the split.

    Raises:
        VSEError: if the file is missing or unreadable, a line is blank, or their number fits no number for each image.
    """
    lines = read_lines(path)
    each, rest = divmod(len(lines), images)
    if each == 0 or rest:
        raise VSEError(
            f"{path}: {len(lines)} lines for {images} images, expected a dense caption for each image, in their order, "
            "or the same number for each"
        )
    blank = next((row for row, line in enumerate(lines) if not line.strip()), None)
    if blank is not None:
        raise VSEError(f"{path}: line {blank + 1} is blank, expected a dense caption on every line")
    return [lines[each * image : each * (image + 1)] for image in range(images)]
