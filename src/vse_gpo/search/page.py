"""The page: a text, an image or a click on a result finds images. Everything on it comes from this machine."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vse_gpo.errors import VSEError, first_line
from vse_gpo.search.answers import LONGEST, Answers
from vse_gpo.search.guard import Guard, without_settings_of_gradio
from vse_gpo.search.heat import kept_part
from vse_gpo.search.markup import STYLE, PageQuery, answer_markup, line_markup

without_settings_of_gradio()  # Gradio reads some of them when it is imported
try:
    import gradio as gr
    import httpx
    import pandas as pd
    from starlette.middleware import Middleware
    from starlette.routing import Mount
    from starlette.types import ASGIApp
except ImportError as error:
    raise VSEError("the page needs Gradio, which is not installed; pip install 'vse_gpo[search]'") from error

MOST = 60  # images at once
KEPT = 3600  # seconds that an uploaded image stays on disk
LARGEST = "100mb"  # uploaded image
QUOTA = 10**9  # bytes of all uploads that are kept
CLICK = """
element.addEventListener("click", (event) => {
  const word = event.target.closest("[data-word]");
  if (word) {
    const chosen = word.ariaPressed === "true" ? null : word.dataset.word;
    for (const one of element.querySelectorAll("[data-word]")) one.ariaPressed = String(one.dataset.word === chosen);
    for (const map of element.querySelectorAll("[data-map]")) map.hidden = map.dataset.map !== chosen;
  }
  const picture = event.target.closest("[data-row]");
  if (picture) trigger("select", {row: Number(picture.dataset.row)});
});
"""


class PageState(NamedTuple):
    """Parts of the page, in the order of the handlers' outputs."""

    text: str
    results: str
    curve: Any
    asked: PageQuery | None


class Handlers:
    """What each part of the page does; an error for the user becomes the line above the results."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def by_text(self, top: int, text: str) -> PageState:
        """The text box."""
        return self._show(top, text, lambda: PageQuery(self.answers.text(text)))

    def by_example(self, top: int, sample: list[str]) -> PageState:
        """A click on an example."""
        return self.by_text(top, sample[0])

    def by_picture(self, top: int, file: str) -> PageState:
        """An uploaded file."""
        path = Path(file)
        return self._show(top, "", lambda: PageQuery(self.answers.picture(path), path.name, path))

    def by_result(self, top: int, event: gr.EventData) -> PageState:
        """A click on a found image."""
        return self._show(top, "", lambda: self._picture_of(event.row))

    def again(self, top: int, text: str, asked: PageQuery | None) -> PageState:
        """Another number of images."""
        return self._show(top, text, lambda: asked or PageQuery(self.answers.text(text)))

    def _picture_of(self, row: int) -> PageQuery:
        query = self.answers.result(row)
        [file] = self.answers.index.files([row])
        return PageQuery(query, file, self.answers.index.path(file))

    def _show(self, top: int, text: str, ask: Callable[[], PageQuery]) -> PageState:
        start = time.perf_counter()
        try:
            with self.answers.in_turn():
                asked = ask()
                answer = self.answers.answer(asked.query, top)
        except VSEError as error:
            return PageState(text, line_markup(str(error)), curve_plot([]), None)
        milliseconds = 1000 * (time.perf_counter() - start)
        kept = partial(kept_part, self.answers.model.prepare_images)
        results = answer_markup(self.answers.index, asked, answer, milliseconds, kept=kept)
        return PageState(text, results, curve_plot(asked.query.curve), asked)


def curve_plot(curve: Sequence[float]) -> Any:
    """The coefficients against rank; hidden if there are none."""
    points = pd.DataFrame({"rank": range(1, len(curve) + 1), "coefficient": curve})
    return gr.LinePlot(points, visible=bool(curve), label=f"The query's {len(curve)} items, pooled by rank")


def build_page(answers: Answers, *, examples: Sequence[str], top: int) -> gr.Blocks:
    """The page, not yet served.

    Args:
        answers: answers the page's queries.
        examples: texts to click.
        top: images to show until another number is chosen.
    """
    most = min(MOST, len(answers.index), answers.rerank or MOST)
    handlers = Handlers(answers)
    with gr.Blocks(title="Image search", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        gr.Markdown(f"# Image search\n{len(answers.index):,} images. Describe one, or click one to find similar ones.")
        with gr.Row():
            text = gr.Textbox(
                placeholder="What the image shows", show_label=False, container=False, scale=6, min_width=260,
                max_lines=1, max_length=LONGEST, autofocus=True, elem_id="text",
            )  # fmt: skip
            search = gr.Button("Search", variant="primary", min_width=90)
            upload = gr.UploadButton("By an image", file_types=["image"], min_width=170)
        with gr.Row():
            example = gr.Dataset(
                components=[gr.Textbox(visible=False)], samples=[[one] for one in examples], label="For example",
                visible=bool(examples), scale=4, min_width=260,
            )  # fmt: skip
            number = gr.Slider(1, most, min(top, most), step=1, label="Images to show", min_width=240)
        results = gr.HTML(js_on_load=CLICK, elem_classes="vse", elem_id="results", min_height=60)
        curve = gr.LinePlot(
            x="rank", y="coefficient", x_title="rank, largest value first", height=220, buttons=[], visible=False
        )
        asked = gr.State(None)
        for event, handler, inputs in (
            (text.submit, handlers.by_text, [number, text]),
            (search.click, handlers.by_text, [number, text]),
            (example.click, handlers.by_example, [number, example]),
            (upload.upload, handlers.by_picture, [number, upload]),
            (results.select, handlers.by_result, [number]),
            (number.release, handlers.again, [number, text, asked]),
        ):
            # one at a time: a tokeniser's warnings are caught for the whole process
            event(handler, inputs, [text, results, curve, asked], api_visibility="private", concurrency_id="model")
    return page


def serve(
    page: gr.Blocks,
    *,
    api: Callable[[Path], ASGIApp],
    host: str,
    port: int,
    open_browser: bool,
    hosts: Sequence[str] = (),
) -> str:
    """Serve the page and the API, and no other file, from their own threads; returns the address.

    Args:
        page: see ``build_page``.
        api: folder of uploads → what answers under ``/api``.
        host: address to listen at; 127.0.0.1 can be reached only from this machine.
        port: port to listen at.
        open_browser: whether to open the page in a browser.
        hosts: names that other machines reach the page by.

    Raises:
        VSEError: if the port is taken.
    """
    without_settings_of_gradio()  # and the others now
    uploads = Path(page.GRADIO_CACHE)
    guard = Middleware(Guard, hosts=hosts, uploads=uploads, quota=QUOTA)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,  # None lets the environment publish the page
            mcp_server=False,
            run_history=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            footer_links=[],
            allowed_paths=[],
            app_kwargs={"middleware": [guard], "routes": [Mount("/api", api(uploads))]},
            max_file_size=LARGEST,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=STYLE,
        )
    except (OSError, OverflowError) as error:
        raise VSEError(f"port={port}: cannot be listened at on {host} ({first_line(error)}); choose another") from error
    except httpx.HTTPError as error:  # Gradio checks that its own server answers
        page.close(verbose=False)
        raise VSEError(
            f"{host}:{port} does not answer ({first_line(error)}); where a proxy is set, set NO_PROXY={host} too"
        ) from error
    return address
