"""Published numbers as Markdown tables, for the documentation."""

from collections.abc import Iterable, Sequence

from vse_gpo.evaluation.published import Ablation, PublishedRow, Scores, published_ablations, published_rows
from vse_gpo.evaluation.results import heading

RECALLS = ("i2t_r1", "i2t_r5", "t2i_r1", "t2i_r5")
Column = tuple[str, str, tuple[str, ...]]  # heading, protocol, metrics
ROW_COLUMNS: list[Column] = [
    ("COCO 1K 5-fold R@1 / R@5 i→t, t→i", "coco_1k_5fold", RECALLS),
    ("rSum", "coco_1k_5fold", ("rsum",)),
    ("Flickr30K 1K R@1 / R@5 i→t, t→i", "f30k_1k", RECALLS),
    ("rSum", "f30k_1k", ("rsum",)),
]
PROTOCOL_COLUMNS: list[Column] = [
    ("COCO 5K R@1 / R@5 i→t, t→i", "coco_5k", RECALLS),
    ("COCO 5K rSum", "coco_5k", ("rsum",)),
    ("COCO 5K R@1, mean of both directions", "coco_5k", ("r1",)),
    ("CxC R@1 / R@5 i→t, t→i, t→t, i→i", "cxc", (*RECALLS, "t2t_r1", "t2t_r5", "i2i_r1", "i2i_r5")),
    ("CxC correlation STS, SIS, SITS", "cxc_correlation", ("sts", "sis", "sits")),
    ("ECCV Caption mAP@R, R-Precision", "eccv", ("map_at_r", "rprecision")),
]


PROTOCOLS = {"coco_1k_5fold": "COCO 1K 5-fold"}


def rows_table() -> str:
    """A line per model: COCO 1K 5-fold and Flickr30K 1K."""
    return _models_table(ROW_COLUMNS)


def protocols_table() -> str:
    """A line per model: the other protocols."""
    return _models_table(PROTOCOL_COLUMNS)


def ablation_table(name: str) -> str:
    """A line per entry of a published comparison, with the learned parameters where they were published."""
    ablation = published_ablations()[name]
    parameters = ablation.parameters
    head = [ablation.rows, *(["parameters"] if parameters else []), *ablation.columns]
    lines = [
        [
            entry,
            *([_millions(parameters[entry])] if parameters else []),
            *(_cell(scores.get(column, {}), ablation.metrics) for column in ablation.columns),
        ]
        for entry, scores in ablation.entries.items()
    ]
    return _markdown(head, lines)


def ablations_section() -> str:
    """Every comparison with a heading, a caption and its table."""
    return "\n".join(
        f"### {name}\n\n{_caption(ablation)}\n\n{ablation_table(name)}"
        for name, ablation in published_ablations().items()
    )


def _models_table(columns: Sequence[Column]) -> str:
    models: dict[str, list[PublishedRow]] = {}
    for row in published_rows().values():
        models.setdefault(row.model, []).append(row)
    protocols = {protocol for _, protocol, _ in columns}
    lines = []
    for model, rows in models.items():
        scores = {protocol: known for row in rows for protocol, known in row.protocols.items()}
        cells = [_cell(scores.get(protocol, {}), metrics) for _, protocol, metrics in columns]
        if any(cells):
            names = [row.name for row in rows if row.protocols.keys() & protocols]
            lines.append([_names(names, trained=rows[0].experiment is not None), model, *cells])
    return _markdown(["row", "model", *(title for title, _, _ in columns)], lines)


def _names(names: Sequence[str], *, trained: bool) -> str:
    """The names of one model's rows; f30k_… stands for a name that differs from the one before in the data set only."""
    first, *others = names
    alike = first.replace("coco_", "f30k_", 1)
    shown = [f"`{first}`", *(f"`{'f30k_…' if name == alike else name}`" for name in others)]
    return ", ".join(shown) + ("" if trained else " (no experiment)")


def _cell(scores: Scores, metrics: Sequence[str]) -> str:
    """Values of one direction between slashes, directions between commas; empty where nothing was published."""
    if not any(metric in scores for metric in metrics):
        return ""
    directions: dict[str, list[str]] = {}
    for metric in metrics:
        directions.setdefault(metric.partition("_")[0], []).append(str(scores.get(metric, "–")))
    return ", ".join(" / ".join(values) for values in directions.values())


def _caption(ablation: Ablation) -> str:
    """What is compared, by which metrics, where the numbers are from and how to repeat it."""
    protocol = f"{PROTOCOLS[ablation.protocol]} " if ablation.protocol else ""
    metrics = ", ".join(heading(metric) for metric in ablation.metrics)
    sweep = f" `sweep={ablation.name}` with {' or '.join(f'`experiment={one}`' for one in ablation.experiments)}."
    return f"{ablation.about}. {protocol}{metrics} ({ablation.source}).{sweep if ablation.experiments else ''}"


def _millions(parameters: float) -> str:
    return f"{parameters / 1e6:g} M" if parameters else "0"


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
