"""One self-contained HTML file; text from files is escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vse_gpo.evaluation.published import published_row
from vse_gpo.evaluation.results import heading
from vse_gpo.reporting.charts import Chart, line_chart
from vse_gpo.reporting.queries import ShownQuery
from vse_gpo.reporting.runs import Run, Scores, Searched, compare_settings
from vse_gpo.reporting.sections import ShownSection, shown_sections
from vse_gpo.storage.pages import page_templates

Cell = tuple[str, str]  # a number, and its interval below


@dataclass(frozen=True)
class Table:
    """Scores by one protocol on one test set: a row per run, and published scores below."""

    protocol: str
    test_set: str
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    published: tuple[str, list[Cell]] | None


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What a run's best checkpoint adds to its folder: scores with intervals, pooling curves, queries."""

    scores: Mapping[str, Scores]
    poolings: Mapping[str, Mapping[int, Sequence[float]]]  # modality → size → coefficients
    examples: Mapping[str, Sequence[ShownQuery]]


def render(runs: list[Run], extras: Mapping[str, Extra], published: str | None, notes: Sequence[str]) -> str:
    """The page as HTML.

    Args:
        runs: runs with distinct names.
        extras: by name, for runs with a checkpoint.
        published: published row to compare with.
        notes: what could not be shown, and why.
    """
    trained = [run for run in runs if run.settings is not None]
    differing, shared = compare_settings(runs)
    return (
        page_templates("vse_gpo.reporting")
        .get_template("page.html")
        .render(
            runs=runs,
            trained=trained,
            tables=score_tables(runs, extras, published),
            sections=[(section, curve_charts(section, runs)) for section in shown_sections()],
            poolings=[(name, chart) for name, extra in extras.items() for chart in pooling_charts(extra)],
            examples=[(name, extra.examples) for name, extra in extras.items() if extra.examples],
            differing=differing,
            shared=shared,
            notes=notes,
            single=len(runs) == 1,
        )
    )


def score_tables(runs: list[Run], extras: Mapping[str, Extra], published: str | None) -> list[Table]:
    """One table per protocol and test set: data set, split and size of the gallery."""
    found: dict[tuple[str, Searched], dict[str, Scores]] = {}
    for run in runs:
        again = extras[run.name].scores if run.name in extras else {}
        for protocol, scores in (again or run.scores).items():
            found.setdefault((protocol, scores.test_set), {})[run.name] = scores
    return [_table(protocol, str(test_set), rows, published) for (protocol, test_set), rows in found.items()]


def _table(protocol: str, test_set: str, rows: Mapping[str, Scores], published: str | None) -> Table:
    names = dict.fromkeys(name for scores in rows.values() for name in scores.metrics)
    shown = [name for name in names if not name.endswith(("medr", "meanr", "_std", "_ms"))]
    shown.sort(key=lambda name: (name[:1] != "i", name[:1] != "t"))  # totals last
    known = published_row(published).protocols.get(protocol, {}) if published else {}
    return Table(
        protocol=protocol,
        test_set=test_set,
        columns=[heading(name) for name in shown],
        rows=[(name, [_cell(scores, metric) for metric in shown]) for name, scores in rows.items()],
        published=(f"published: {published}", [(f"{known[name]:.1f}" if name in known else "", "") for name in shown])
        if any(name in known for name in shown)
        else None,
    )


def _cell(scores: Scores, metric: str) -> Cell:
    if metric not in scores.metrics:
        return "", ""
    low, high = scores.intervals.get(metric, (0.0, 0.0))
    return f"{scores.metrics[metric]:.1f}", f"{low:.1f}–{high:.1f}" if metric in scores.intervals else ""


def curve_charts(section: ShownSection, runs: list[Run]) -> list[Chart]:
    """One chart per training curve of a section, with a line per run."""
    charts = []
    for title in section.lines:
        series = {run.name: run.curves[title] for run in runs if run.curves.get(title)}
        if series:
            charts.append(line_chart(title, series, "step"))
    return charts


def pooling_charts(extra: Extra) -> list[Chart]:
    """Charts of each modality's coefficients against rank, with a line per set size."""
    charts = []
    for modality, curves in extra.poolings.items():
        series: dict[str, Any] = {
            f"{size}": [(rank + 1, weight) for rank, weight in enumerate(weights)]
            for size, weights in sorted(curves.items())
        }
        charts.append(line_chart(f"{modality}, by set size", series, "rank, largest value first"))
    return charts
