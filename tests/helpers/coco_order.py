"""COCO's test set in the benchmark's order, as eccv-caption brings it."""

import numpy as np

from vse_gpo.retrieval.annotations import eccv_folder, read_positives


def coco_test_order() -> tuple[list[int], list[int], np.ndarray]:
    """COCO's ids of images and captions, and the row of each caption's image."""
    folder = eccv_folder()
    captions = np.load(folder / "coco_test_ids.npy").tolist()
    images = {caption: image for image, caption in read_positives(folder, "original")[0]}
    owners = [images[caption] for caption in captions]
    image_ids = list(dict.fromkeys(owners))
    rows = {image: row for row, image in enumerate(image_ids)}
    return image_ids, captions, np.array([rows[image] for image in owners])
