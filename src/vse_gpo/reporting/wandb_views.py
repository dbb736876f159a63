"""A saved view and a report in Weights & Biases, with the sections of the page."""

import re
from collections.abc import Sequence
from typing import Any

import requests
import wandb
import wandb_workspaces.reports.v2.interface as reports
import wandb_workspaces.workspaces.interface as workspaces

from vse_gpo.errors import VSEError, first_line
from vse_gpo.reporting.sections import ShownSection, shown_sections

STEP = "trainer/global_step"  # of Lightning's logger


def write_dashboard(*, project: str, name: str, view: bool, report: bool, description: str) -> None:
    """Make the view and the report, and print their addresses.

    Args:
        project: ``ENTITY/PROJECT``.
        name: of the view, and title of the report.
        view, report: which to make.
        description: of the report.

    Raises:
        VSEError: if the project is no such name, nothing is to be made, or W&B refuses it.
    """
    entity, _, of_entity = project.partition("/")
    if not entity or not of_entity or "/" in of_entity:
        raise VSEError(f"project={project}: expected ENTITY/PROJECT, as in the project's address at W&B")
    if not view and not report:
        raise VSEError("view=false report=false: nothing to make; leave one of them true")
    try:
        wandb.Api()  # refuses who is not logged in
        if view:
            made: Any = saved_view(entity, of_entity, name, shown_sections())  # its methods have no types
            print(f"view: {made.save().url}")
        if report:
            written = run_report(entity, of_entity, name, description, shown_sections()).save()
            print(f"report: {written.url}")
    except (wandb.errors.Error, requests.RequestException, ValueError) as error:
        raise VSEError(
            f"{project}: W&B refused it ({first_line(error)}); log in with wandb login, and check the project's name"
        ) from error


def saved_view(entity: str, project: str, name: str, sections: Sequence[ShownSection]) -> workspaces.Workspace:
    """The saved view, which is not sent yet.

    Args:
        entity, project: where.
        name: of the view.
        sections: what it shows.
    """
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[workspaces.Section(name=one.title, panels=panels_of(one), is_open=True) for one in sections],
    )


def run_report(
    entity: str, project: str, title: str, description: str, sections: Sequence[ShownSection]
) -> reports.Report:
    """The report, which is not sent yet: a heading, a line of text and the panels of each section.

    Args:
        entity, project: where.
        title, description: of the report.
        sections: what it shows.
    """
    runs = [reports.Runset(entity=entity, project=project, name="all runs")]
    blocks: list[Any] = []
    for section in sections:
        blocks += [reports.H2(section.title), reports.P(section.about)]
        blocks.append(reports.PanelGrid(runsets=runs, panels=panels_of(section), hide_run_sets=True))
    return reports.Report(entity=entity, project=project, title=title, description=description, blocks=blocks)


def panels_of(section: ShownSection) -> list[Any]:
    """The panels of a section, one for each thing that it names."""
    panels: list[Any] = [line_plot(title, metric) for title, metric in section.lines.items()]
    panels += [reports.MediaBrowser(title=key.partition("/")[2], media_keys=[key]) for key in section.images]
    panels += [reports.WeavePanelSummaryTable(table_name=key) for key in section.tables]
    if section.importance is not None:
        panels.append(reports.ParameterImportancePlot(with_respect_to=section.importance))
        panels.append(reports.RunComparer(diff_only=True))
    return panels


def line_plot(title: str, metric: str) -> reports.LinePlot:
    """A metric of all runs against the step; a pattern becomes the regular expression that W&B takes."""
    if "*" in metric:
        expression = ".*".join(re.escape(part) for part in metric.split("*"))
        return reports.LinePlot(title=title, x=STEP, metric_regex=f"^{expression}$")
    return reports.LinePlot(title=title, x=STEP, y=[metric])
