"""The saved view and the report, as they would be sent to Weights & Biases: nothing is sent here."""

import re
from types import SimpleNamespace

import pytest
import requests

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")

from vse_gpo.errors import VSEError
from vse_gpo.reporting import wandb_views
from vse_gpo.reporting.sections import shown_sections
from vse_gpo.reporting.wandb_views import line_plot, panels_of, run_report, saved_view, write_dashboard

MAKES = {"name": "all", "view": True, "report": True, "description": "Runs."}
WHERE = ("entity", "project")


def shown_by(panels) -> list[str]:
    """The keys that panels show, patterns as they are sent."""
    found = []
    for panel in panels:
        for part in ("y", "media_keys", "table_name", "metric_regex", "with_respect_to"):
            value = getattr(panel, part, None)
            found += value if isinstance(value, list) else [value] if value else []
    return [str(getattr(one, "name", one)) for one in found]


def test_the_view_has_a_section_for_each_and_a_panel_for_everything_in_it():
    view = saved_view(*WHERE, "all", shown_sections())
    assert [section.name for section in view.sections] == [section.title for section in shown_sections()]
    for section, specified in zip(view.sections, shown_sections(), strict=True):
        expected = [name.replace("lr-*", r"^lr\-.*$") for name in specified.patterns]
        assert shown_by(section.panels) == expected
    assert view._to_model().spec.section.panel_bank_config.sections[1].panels[0].config.metrics == ["train/loss"]


def test_the_report_has_the_same_panels_below_headings():
    report = run_report(*WHERE, "all", "Runs.", shown_sections())
    grids = [block for block in report.blocks if hasattr(block, "panels")]
    assert [block.text for block in report.blocks if hasattr(block, "text")][::2] == [
        section.title for section in shown_sections()
    ]
    assert [shown_by(grid.panels) for grid in grids] == [shown_by(panels_of(one)) for one in shown_sections()]


def test_a_pattern_is_sent_as_a_regular_expression():
    plot = line_plot("learning rate", "lr-*")
    assert re.search(plot.metric_regex, "lr-AdamW/heads")
    assert not re.search(plot.metric_regex, "train/lr-loss")


def test_the_command_prints_the_addresses(monkeypatch, capsys):
    saved = []

    def save(made):
        saved.append(type(made).__name__)
        return SimpleNamespace(url=f"https://wandb.ai/{made.entity}/{made.project}")

    monkeypatch.setattr(wandb_views.wandb, "Api", SimpleNamespace)
    monkeypatch.setattr(wandb_views.workspaces.Workspace, "save", save)
    monkeypatch.setattr(wandb_views.reports.Report, "save", save)
    write_dashboard(project="me/photos", **MAKES)
    write_dashboard(project="me/photos", **MAKES | {"view": False})
    assert saved == ["Workspace", "Report", "Report"]
    assert capsys.readouterr().out.splitlines()[0] == "view: https://wandb.ai/me/photos"


@pytest.mark.parametrize(
    ("project", "changes", "message"),
    [
        ("photos", {}, "project=photos: expected ENTITY/PROJECT"),
        ("a/b/c", {}, "project=a/b/c: expected ENTITY/PROJECT"),
        ("a/b", {"view": False, "report": False}, "nothing to make"),
        ("a/b", {}, r"a/b: W&B refused it \(no network\); log in with wandb login, and check the project's name"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line(monkeypatch, project, changes, message):
    def ask():
        raise requests.ConnectionError("no network\nat all")

    monkeypatch.setattr(wandb_views.wandb, "Api", ask)
    with pytest.raises(VSEError, match=message):
        write_dashboard(project=project, **MAKES | changes)
