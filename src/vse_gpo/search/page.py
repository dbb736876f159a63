"""The page: a text, an image or a result finds images. Everything on it comes from this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.routing import Mount
from starlette.types import ASGIApp

from vse_gpo.data.formats import image_suffixes
from vse_gpo.errors import VSEError, first_line
from vse_gpo.search.answers import LONGEST, Answers
from vse_gpo.search.facets import Facets, facets_of
from vse_gpo.search.guard import Guard, without_settings_of_gradio
from vse_gpo.search.handlers import Handlers, Middleware, httpx
from vse_gpo.search.handlers import gradio as gr
from vse_gpo.search.markup import STYLE, timeline_markup

MOST = 240  # images at once
KEPT = 3600  # seconds that an uploaded image stays on disk
LARGEST = "100mb"  # uploaded image
QUOTA = 10**9  # bytes of all uploads that are kept
CLICKS, DATES = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("answer.js", "timeline.js"))


def build_page(answers: Answers, *, examples: Sequence[str], top: int, shows_paths: bool = False) -> gr.Blocks:
    """The page, not yet served.

    Args:
        answers: answers the page's queries.
        examples: texts to click.
        top: images at first, and how many more at a time.
        shows_paths: show whole paths of images, for those who sit at this machine.
    """
    most = min(MOST, len(answers.index), answers.rerank or MOST)
    handlers = Handlers(answers, top=min(top, most), most=most, shows_paths=shows_paths)
    facets = facets_of(answers.index)
    kinds = ["image", *sorted(image_suffixes())]  # browsers do not know all of them

    def view(row: object) -> str:  # Gradio marks the function, which it cannot do to a method
        return handlers.view(row)

    with gr.Blocks(title="Image search", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        gr.Markdown(
            f"# Image search\n{len(answers.index):,} images. Describe one, or drop an image here to find similar ones."
        )
        with gr.Row():
            text = gr.Textbox(
                label="What the image shows", placeholder="What the image shows", show_label=False, container=False,
                scale=6, min_width=260, max_lines=1, max_length=LONGEST, autofocus=True, elem_id="text",
            )  # fmt: skip
            search = gr.Button("Search", variant="primary", min_width=90)
            upload = gr.UploadButton("By an image", file_types=kinds, min_width=160, elem_id="upload")
            copies = gr.Button("Duplicates", min_width=120, elem_id="copies")
        filters = filter_fields(facets)
        changes = [field.input if isinstance(field, gr.Dropdown) else field.submit for field in filters]
        timeline = gr.HTML(
            timeline_markup(facets.spans), js_on_load=DATES, elem_classes="vse", elem_id="timeline",
            visible=bool(facets.spans),
        )  # fmt: skip
        example = gr.Dataset(
            components=[gr.Textbox(visible=False)], samples=[[one] for one in examples], label="For example",
            visible=bool(examples), elem_id="examples",
        )  # fmt: skip
        results = gr.HTML(
            js_on_load=CLICKS, server_functions=[view], elem_classes="vse", elem_id="results", min_height=60
        )
        more = gr.Button("More images", visible=False, elem_id="more")
        curve = gr.HTML(elem_classes="vse", elem_id="curve")
        asked = gr.State(None)
        shown = [text, results, more, curve, asked]
        for event, handler, inputs in (
            (text.submit, handlers.by_text, [text, *filters]),
            (search.click, handlers.by_text, [text, *filters]),
            (example.click, handlers.by_example, [example, *filters]),
            (upload.upload, handlers.by_picture, [upload, *filters]),
            (results.select, handlers.by_result, [*filters]),
            (more.click, handlers.more, [text, asked]),
            *((changed, handlers.again, [text, asked, *filters]) for changed in changes),
        ):
            # one at a time: a tokeniser's warnings are caught for the whole process
            event(handler, inputs, shown, api_visibility="private", concurrency_id="model")
        copies.click(handlers.copies, [text], shown, api_visibility="private")
        chosen = timeline.select(handlers.in_span, [], filters[:2], api_visibility="private")
        chosen.then(handlers.again, [text, asked, *filters], shown, api_visibility="private", concurrency_id="model")
    return page


def filter_fields(facets: Facets) -> list[gr.Textbox | gr.Dropdown]:
    """The fields that leave images out, in the order of ``Filters``; of what no image has, there is none to see.

    Args:
        facets: what is known of the photos.
    """
    dated = bool(facets.spans)
    with gr.Accordion("Filters", open=False, elem_id="filters"), gr.Row():
        after = gr.Textbox(label="After", placeholder="2023-06", max_lines=1, visible=dated, min_width=120)
        before = gr.Textbox(label="Before", placeholder="2024", max_lines=1, visible=dated, min_width=120)
        camera, folder = (
            gr.Dropdown(
                ["", *known], value="", label=label, allow_custom_value=True, visible=bool(known), min_width=160
            )
            for label, known in (("Camera", facets.cameras), ("Folder", facets.folders))
        )
        near = gr.Textbox(
            label="Near", placeholder="48.21,16.37,5", max_lines=1, visible=facets.has_places, min_width=160
        )
        where = gr.Textbox(label="Condition in SQL", placeholder="width > height", max_lines=1, min_width=260)
    return [after, before, camera, folder, near, where]


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
