"""What the parts of the page do: each handler takes what was typed or clicked, and says what the page shows then."""

import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vse_gpo.errors import VSEError
from vse_gpo.search.answers import Answers
from vse_gpo.search.filters import filter_sql
from vse_gpo.search.guard import without_settings_of_gradio
from vse_gpo.search.heat import kept_part
from vse_gpo.search.listing import Copies, find_copies
from vse_gpo.search.markup import PageQuery, answer_markup, chart_markup, copies_markup, line_markup, view_markup

without_settings_of_gradio()  # Gradio reads some of them when it is imported
try:
    import gradio as gradio  # noqa: PLC0414, page.py takes these from here
    import httpx as httpx  # noqa: PLC0414
    from starlette.middleware import Middleware as Middleware  # noqa: PLC0414
except ImportError as error:
    raise VSEError("the page needs Gradio, which is not installed; pip install 'vse_gpo[search]'") from error

DIFFERENCE = 17  # of near copies, as vse-duplicates takes it


class PageState(NamedTuple):
    """Parts of the page, in the order of the handlers' outputs."""

    text: str
    results: str
    more: gradio.Button
    curve: str
    asked: PageQuery | None


class Filters(NamedTuple):
    """The fields that leave images out, in their order on the page; see ``filter_sql``. Empty ones say nothing."""

    after: str | None = None
    before: str | None = None
    camera: str | None = None
    folder: str | None = None
    near: str | None = None
    where: str | None = None

    def condition(self) -> str | None:
        """In SQL; None if all fields are empty.

        Raises:
            VSEError: if one cannot be read.
        """
        typed = {name: field.strip() if field else "" for name, field in self._asdict().items()}
        return filter_sql(**{name: field or None for name, field in typed.items()})


class Handlers:
    """What each part of the page does; an error for the user becomes the line above the results.

    Args:
        answers: answers the queries.
        top: images at first, and how many more at a time.
        most: images at once.
        shows_paths: whether whole paths are shown, not only names under the image folder.
    """

    def __init__(self, answers: Answers, *, top: int, most: int, shows_paths: bool = False) -> None:
        self.answers = answers
        self.top = top
        self.most = most
        self.shows_paths = shows_paths

    def by_text(self, text: str, *filters: str | None) -> PageState:
        """The text box; without a text, the images that meet the conditions."""
        return self._show(text, lambda: self._asked_by(text, Filters(*filters)))

    def by_example(self, sample: list[str], *filters: str | None) -> PageState:
        """A click on an example."""
        return self.by_text(sample[0], *filters)

    def by_picture(self, file: str, *filters: str | None) -> PageState:
        """An uploaded file."""
        path = Path(file)

        def ask() -> PageQuery:
            query = self.answers.picture(path)
            return PageQuery(query, path.name, path, Filters(*filters).condition())

        return self._show("", ask)

    def by_result(self, event: gradio.EventData, *filters: str | None) -> PageState:
        """A click on "similar"."""

        def ask() -> PageQuery:
            query = self.answers.result(event.row)
            [file] = self.answers.index.files([event.row])
            return PageQuery(query, file, self.answers.index.path(file), Filters(*filters).condition())

        return self._show("", ask)

    def again(self, text: str, asked: PageQuery | None, *filters: str | None) -> PageState:
        """Other conditions: the same image, or what the text box holds."""
        if asked is None or asked.image is None:
            return self.by_text(text, *filters)
        return self._show(text, lambda: asked._replace(where=Filters(*filters).condition()))

    def more(self, text: str, asked: PageQuery | None) -> PageState:
        """More images of the same query."""
        shown = self.top if asked is None else asked.shown + self.top
        return self._show(text, lambda: (asked or self._asked_by(text, Filters()))._replace(shown=shown))

    def in_span(self, event: gradio.EventData) -> tuple[str, str]:
        """A click on the timeline: what the fields for dates hold then."""
        return str(event.start), str(event.end)

    def copies(self, text: str) -> PageState:
        """The copies among all images."""
        results = copies_markup(self.answers.index, self._copies, self.most)
        return PageState(text, results, gradio.Button(visible=False), "", None)

    @cached_property
    def _copies(self) -> Copies:
        return find_copies(self.answers.index, limit=DIFFERENCE, random=np.random.default_rng(0))

    def view(self, row: object) -> str:
        """One image in large."""
        try:
            return view_markup(self.answers.index, row, shows_path=self.shows_paths)
        except VSEError as error:
            return line_markup(str(error))

    def _asked_by(self, text: str, filters: Filters) -> PageQuery:
        where = filters.condition()
        query = None if where is not None and not text.strip() else self.answers.text(text)
        return PageQuery(query, where=where)

    def _show(self, text: str, ask: Callable[[], PageQuery]) -> PageState:
        start = time.perf_counter()
        try:
            with self.answers.in_turn():
                asked = ask()
                asked = asked._replace(shown=min(asked.shown or self.top, self.most))
                if asked.query is None:
                    answer = self.answers.newest(asked.shown, asked.where)
                else:
                    answer = self.answers.answer(asked.query, asked.shown, asked.where)
        except VSEError as error:
            return PageState(text, line_markup(str(error)), gradio.Button(visible=False), "", None)
        milliseconds = 1000 * (time.perf_counter() - start)
        kept = partial(kept_part, self.answers.model.prepare_images)
        results = answer_markup(self.answers.index, asked, answer, milliseconds, kept=kept)
        curve = chart_markup(asked.query.curve if asked.query else [])
        more = len(answer.hits) == asked.shown < self.most
        return PageState(text, results, gradio.Button(visible=more), curve, asked)
