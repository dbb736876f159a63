"""Published numbers, by row and protocol.

Chen et al. 2021, tables 1 to 3 and supplement, and their released models; DE, and VSRN on CxC: Parekh et al. 2021;
CLIP: Chun 2024.
"""

from vse_gpo.errors import VSEError

PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "coco_butd_region": {
        "coco_1k_5fold": {"i2t_r1": 79.7, "i2t_r5": 96.4, "t2i_r1": 64.8, "t2i_r5": 91.4, "rsum": 527.5},
        "coco_5k": {"rsum": 434.3},
        "eccv": {"map_at_r": 40.46, "rprecision": 49.97},
    },
    "coco_butd_grid": {
        "coco_1k_5fold": {"i2t_r1": 80.4, "i2t_r5": 96.8, "t2i_r1": 66.4, "t2i_r5": 92.1, "rsum": 531.6},
        "coco_5k": {"rsum": 440.0},
        "cxc": {"i2t_r1": 60.6, "t2i_r1": 46.2, "t2t_r1": 45.9, "i2i_r1": 44.4},
        "eccv": {"map_at_r": 40.40, "rprecision": 50.09},
    },
    "coco_wsl_grid": {
        "coco_1k_5fold": {"i2t_r1": 84.5, "i2t_r5": 98.1, "t2i_r1": 72.0, "t2i_r5": 93.9, "rsum": 545.4},
        "coco_5k": {"rsum": 468.9},
        "cxc": {"i2t_r1": 67.9, "t2i_r1": 53.6, "t2t_r1": 46.7, "i2i_r1": 51.3},
        "eccv": {"map_at_r": 42.41, "rprecision": 51.43},
    },
    "coco_de": {
        "cxc": {"i2t_r1": 55.9, "t2i_r1": 41.7, "t2t_r1": 42.6, "i2i_r1": 38.5},
        "cxc_correlation": {"sts": 74.2, "sis": 74.5, "sits": 61.9},
    },
    "coco_vsepp_butd_region": {
        "coco_1k_5fold": {"i2t_r1": 67.9, "i2t_r5": 91.9, "t2i_r1": 54.0, "t2i_r5": 85.6, "rsum": 488.9},
        "coco_5k": {"rsum": 364.7},
    },
    "coco_vsepp_wsl_grid": {
        "coco_1k_5fold": {"i2t_r1": 79.6, "i2t_r5": 97.1, "t2i_r1": 66.4, "t2i_r5": 91.1, "rsum": 528.7},
        "coco_5k": {"rsum": 439.2},
    },
    "coco_vsepp_butd_region_bigru": {
        "coco_1k_5fold": {"i2t_r1": 68.5, "i2t_r5": 92.6, "t2i_r1": 54.0, "t2i_r5": 85.6, "rsum": 490.5},
    },
    "coco_vsepp_butd_grid_bigru": {
        "coco_1k_5fold": {"i2t_r1": 72.4},
    },
    "coco_vsepp_imagenet_res152_grid_bigru": {
        "coco_1k_5fold": {"i2t_r1": 70.9, "i2t_r5": 93.4, "t2i_r1": 58.2, "t2i_r5": 87.1, "rsum": 500.6},
    },
    "coco_butd_region_bigru": {
        "coco_1k_5fold": {"i2t_r1": 78.5, "i2t_r5": 96.0, "t2i_r1": 61.7, "t2i_r5": 90.3, "rsum": 520.8},
    },
    "coco_butd_grid_bigru": {
        "coco_1k_5fold": {"i2t_r1": 78.0, "i2t_r5": 95.8, "t2i_r1": 62.6, "t2i_r5": 90.6, "rsum": 521.5},
    },
    "coco_imagenet_res152_grid_bigru": {
        "coco_1k_5fold": {"i2t_r1": 76.5, "i2t_r5": 95.3, "t2i_r1": 62.9, "t2i_r5": 90.6, "rsum": 519.6},
    },
    "coco_vsrn": {
        "coco_1k_5fold": {"i2t_r1": 76.2, "i2t_r5": 94.8, "t2i_r1": 62.8, "t2i_r5": 89.7, "rsum": 516.8},
        "cxc": {"i2t_r1": 52.4, "t2i_r1": 40.1, "t2t_r1": 41.0, "i2i_r1": 44.2},
        "cxc_correlation": {"sts": 73.0, "sis": 70.1, "sits": 60.4},
    },
    "coco_region_grid_ensemble": {
        "coco_1k_5fold": {"i2t_r1": 82.2, "i2t_r5": 97.5, "t2i_r1": 68.1, "t2i_r5": 92.9, "rsum": 537.4},
    },
    "coco_wsl_grid_ensemble": {
        "coco_1k_5fold": {"i2t_r1": 85.6, "i2t_r5": 98.0, "t2i_r1": 73.1, "t2i_r5": 94.3, "rsum": 548.1},
        "coco_5k": {"rsum": 474.8},
    },
    "coco_clip_vitb32": {
        "coco_1k_5fold": {"rsum": 536.5},
        "eccv": {"map_at_r": 40.0},
    },
    "f30k_butd_region": {
        "f30k_1k": {"i2t_r1": 81.7, "i2t_r5": 95.4, "t2i_r1": 61.4, "t2i_r5": 85.9, "rsum": 513.5},
    },
    "f30k_butd_grid": {
        "f30k_1k": {"i2t_r1": 81.5, "i2t_r5": 97.1, "t2i_r1": 63.7, "t2i_r5": 88.3, "rsum": 522.3},
    },
    "f30k_wsl_grid": {
        "f30k_1k": {"i2t_r1": 88.4, "i2t_r5": 98.3, "t2i_r1": 74.2, "t2i_r5": 93.7, "rsum": 550.9},
    },
    "f30k_vsepp_butd_region": {
        "f30k_1k": {"i2t_r1": 63.4, "i2t_r5": 87.2, "t2i_r1": 45.6, "t2i_r5": 76.4, "rsum": 449.7},
    },
    "f30k_vsepp_wsl_grid": {
        "f30k_1k": {"i2t_r1": 80.9, "i2t_r5": 96.6, "t2i_r1": 65.2, "t2i_r5": 89.5, "rsum": 524.8},
    },
    "f30k_vsepp_butd_region_bigru": {
        "f30k_1k": {"i2t_r1": 62.2, "i2t_r5": 86.6, "t2i_r1": 45.7, "t2i_r5": 73.6, "rsum": 442.3},
    },
    "f30k_vsepp_imagenet_res152_grid_bigru": {
        "f30k_1k": {"i2t_r1": 64.4, "i2t_r5": 87.3, "t2i_r1": 49.3, "t2i_r5": 77.5, "rsum": 456.3},
    },
    "f30k_butd_region_bigru": {
        "f30k_1k": {"i2t_r1": 76.5, "i2t_r5": 94.2, "t2i_r1": 56.4, "t2i_r5": 83.4, "rsum": 498.1},
    },
    "f30k_butd_grid_bigru": {
        "f30k_1k": {"i2t_r1": 77.9, "i2t_r5": 93.7, "t2i_r1": 57.5, "t2i_r5": 83.4, "rsum": 500.2},
    },
    "f30k_imagenet_res152_grid_bigru": {
        "f30k_1k": {"i2t_r1": 77.1, "i2t_r5": 94.5, "t2i_r1": 58.5, "t2i_r5": 84.1, "rsum": 500.9},
    },
    "f30k_vsrn": {
        "f30k_1k": {"i2t_r1": 71.3, "i2t_r5": 90.6, "t2i_r1": 54.7, "t2i_r5": 81.8, "rsum": 482.6},
    },
    "f30k_region_grid_ensemble": {
        "f30k_1k": {"i2t_r1": 85.3, "i2t_r5": 97.2, "t2i_r1": 66.7, "t2i_r5": 89.9, "rsum": 532.0},
    },
    "f30k_wsl_grid_ensemble": {
        "f30k_1k": {"i2t_r1": 88.7, "i2t_r5": 98.9, "t2i_r1": 76.1, "t2i_r5": 94.5, "rsum": 555.1},
    },
}


def published_row(name: str) -> dict[str, dict[str, float]]:
    """Protocol → metric → value of a published row.

    Raises:
        VSEError: if there is no such row.
    """
    if name not in PUBLISHED:
        raise VSEError(f"published={name}: no such row, expected one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
