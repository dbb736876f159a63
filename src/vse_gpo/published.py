"""Published numbers, by row and protocol: Chen et al. 2021, tables 1 to 3, their released models; CLIP by Chun 2024."""

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
    "f30k_region_grid_ensemble": {
        "f30k_1k": {"i2t_r1": 85.3, "i2t_r5": 97.2, "t2i_r1": 66.7, "t2i_r5": 89.9, "rsum": 532.0},
    },
    "f30k_wsl_grid_ensemble": {
        "f30k_1k": {"i2t_r1": 88.7, "i2t_r5": 98.9, "t2i_r1": 76.1, "t2i_r5": 94.5, "rsum": 555.1},
    },
}
