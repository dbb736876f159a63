"""The search over HTTP, for other programs: JSON for a text or an image, and small images.

Errors are one line of JSON, ``{"error": …}``, with the status that says whose they are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any, Literal

import pyarrow.compute as pc

from vse_gpo.batch import EncoderOutput
from vse_gpo.errors import VSEError
from vse_gpo.search.answers import LONGEST, Answers
from vse_gpo.search.asking import Asker, Reply, answer_of, judgement_of_image
from vse_gpo.search.filters import filter_sql
from vse_gpo.search.fingerprints import small_image, thumbnail_of
from vse_gpo.search.guard import refused
from vse_gpo.search.index import Index
from vse_gpo.search.parts import parts_of
from vse_gpo.search.pictures import open_picture
from vse_gpo.search.reranking import choose_rerank, find, stored_query

try:
    from fastapi import FastAPI, HTTPException, Query, Request, Response
    from fastapi.exceptions import RequestValidationError
    from pydantic import BaseModel, Field
    from starlette.exceptions import HTTPException as StarletteHTTPException  # of addresses that are not there
except ImportError as error:
    raise VSEError("the page needs Gradio, which is not installed; pip install 'vse_gpo[search]'") from error

MOST = 1000  # images of an answer
LARGEST = 20 * 10**6  # bytes of an image that is sent


class SearchOptions(BaseModel, extra="forbid"):
    """Options of a search; they mean what they mean on the command line."""

    top: int = Field(10, ge=1, le=MOST, description="images to find")
    rerank: int | Literal["auto"] | None = Field(None, description="first images that the interaction re-orders")
    where: str | None = Field(None, description="condition in SQL on the columns of the index")
    after: str | None = Field(None, description="taken in this year, month, day or later")
    before: str | None = Field(None, description="taken before it")
    near: str | None = Field(None, description="latitude,longitude[,kilometres]")
    camera: str | None = Field(None, description="part of the camera's name")
    folder: str | None = Field(None, description="folder under the image folder")

    def condition(self) -> str | None:
        """See ``filter_sql``."""
        return filter_sql(
            where=self.where,
            after=self.after,
            before=self.before,
            near=self.near,
            camera=self.camera,
            folder=self.folder,
        )


class TextOptions(SearchOptions):
    """A text, and options."""

    query: str = Field(max_length=LONGEST, description="what the image shows")


class FileOptions(SearchOptions):
    """An image of the index, and options."""

    file: str = Field(description="name of an image of the index")


class FoundImage(BaseModel):
    """One image of an answer."""

    rank: int
    score: float
    file: str


class FoundImages(BaseModel):
    """An answer, as ``vse-search json=true`` prints it."""

    query: str
    fits: bool | None = Field(description="null if it is not known")
    reason: str = Field(description="why nothing fits")
    hits: list[FoundImage]
    remarks: list[str] = Field(description="of the tokeniser, for example that the text is cut")


class SearchApi:
    """What each address does. One thread works for the model, in the order of the requests.

    Args:
        answers: whose index and model are asked.
        uploads: folder for images while they are searched for.
        largest: bytes of such an image.
    """

    def __init__(self, answers: Answers, *, uploads: Path, largest: int = LARGEST) -> None:
        self.answers = answers
        self.asker = Asker(answers.index, answers.model)
        self.uploads = uploads
        self.largest = largest
        self._worker = ThreadPoolExecutor(1, "search")

    async def search(self, options: Annotated[TextOptions, Query()]) -> dict[str, Any]:
        """The images that fit a text."""

        def work() -> Reply:
            first = choose_rerank(options.rerank, self.answers.index, self.answers.model, top=options.top)
            parts = parts_of(options.query)
            return self.asker.ask(parts, top=options.top, rerank=first, where=options.condition())

        return await self._answered(work)

    async def similar(self, options: Annotated[FileOptions, Query()]) -> dict[str, Any]:
        """The images like one of the index, which is not among them."""
        row = row_of_file(self.answers.index, options.file)

        def query(with_items: bool) -> EncoderOutput:
            return stored_query(self.answers.index, row, with_items=with_items)

        return await self._answered(lambda: self._like(options.file, query, options, without=row))

    async def similar_to_upload(self, request: Request, options: Annotated[SearchOptions, Query()]) -> dict[str, Any]:
        """The images like the one that is sent, its file as the request's body."""
        self.uploads.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self.uploads) as file:
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > self.largest:
                    most = f"at most {self.largest / 10**6:g} MB"
                    raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a larger image than expected, {most}")
                file.write(part)
            file.flush()
            path = Path(file.name)

            def query(_: bool) -> EncoderOutput:
                return self.answers.picture(path).encoded

            return await self._answered(lambda: self._like("an image that was sent", query, options))

    def thumbnail(self, file: str) -> Response:
        """An image of the index, small, as a JPEG."""
        data = thumbnail_in(self.answers.index, row_of_file(self.answers.index, file))
        return Response(data, media_type="image/jpeg", headers={"X-Content-Type-Options": "nosniff"})

    async def health(self) -> dict[str, Any]:
        """Whether it answers, and the index that it asks."""
        settings = self.answers.index.settings
        return {"status": "ok", "images": len(self.answers.index), "model": settings.fingerprint}

    def _like(
        self,
        name: str,
        query: Callable[[bool], EncoderOutput],  # with items, or without
        options: SearchOptions,
        *,
        without: int | None = None,
    ) -> Reply:
        index, model = self.answers.index, self.answers.model
        first = choose_rerank(options.rerank, index, model, top=options.top)
        where = options.condition()
        hits = find(index, model, query(first > 0), top=options.top, rerank=first, without=without, where=where)
        return Reply(f"like {name}", hits, judgement_of_image(hits), [])

    async def _answered(self, work: Callable[[], Reply]) -> dict[str, Any]:
        def in_turn() -> Reply:
            with self.answers.in_turn():
                return work()

        reply = await asyncio.get_running_loop().run_in_executor(self._worker, in_turn)
        return answer_of(reply)


def row_of_file(index: Index, file: str) -> int:
    """The row of an image.

    Args:
        index: that it is in.
        file: its name.

    Raises:
        HTTPException: 404, if the index has no such image.
    """
    row = pc.index(index.names, file).as_py()
    if row < 0:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"no image {file!r} in the index")
    return row


def thumbnail_in(index: Index, row: int) -> bytes:
    """The stored thumbnail of an image as a JPEG; of one that has none, it is made.

    Args:
        index: that it is in.
        row: of the image.

    Raises:
        HTTPException: 404, if none is stored and the image cannot be read any more, or lies outside its folder now.
    """
    [stored] = index.table.read(["thumbnail"], rows=[row])["thumbnail"].to_pylist()
    if stored is not None:
        return stored
    [file] = index.files([row])
    try:
        return thumbnail_of(small_image(open_picture(index.path(file))))
    except VSEError:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{file!r} cannot be read any more") from None


def build_api(answers: Answers, uploads: Path, *, largest: int = LARGEST) -> FastAPI:
    """The addresses, described by ``openapi.json`` beside them; see ``SearchApi``.

    Args:
        answers, uploads, largest: see ``SearchApi``.
    """
    api = SearchApi(answers, uploads=uploads, largest=largest)
    errors: dict[int | str, dict[str, Any]] = {"4XX": {"model": Refusal}}
    app = FastAPI(title="Image search", responses=errors, docs_url=None, redoc_url=None)  # pages that load scripts
    sent = {"requestBody": {"required": True, "content": {"image/*": {"schema": {"type": "string"}}}}}
    app.get("/search", response_model=FoundImages)(api.search)
    app.get("/similar", response_model=FoundImages)(api.similar)
    app.post("/similar", response_model=FoundImages, openapi_extra=sent)(api.similar_to_upload)
    app.get("/thumbnail", response_class=Response)(api.thumbnail)
    app.get("/health")(api.health)
    for kind, told in TOLD.items():
        app.add_exception_handler(kind, told)
    return app


# errors


class Refusal(BaseModel):
    """Why a request was not answered."""

    error: str


async def tell_error(_: Request, error: Any) -> Response:
    """What the user can mend."""
    return refused(HTTPStatus.BAD_REQUEST, str(error))


async def tell_options(_: Request, error: Any) -> Response:
    """Options of a request that are missing, unknown or of another kind; the first of them."""
    first = error.errors()[0]
    name, line = first["loc"][-1], first["msg"]
    return refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: {line[:1].lower()}{line[1:]}")


async def tell_status(_: Request, error: Any) -> Response:
    """What has a status of its own, for example that there is no such address."""
    return refused(error.status_code, error.detail, error.headers)


async def tell_fault(*_: Any) -> Response:
    """A fault of the program, which the server logs."""
    return refused(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the server; its log has the details")


TOLD: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
    VSEError: tell_error,
    RequestValidationError: tell_options,
    StarletteHTTPException: tell_status,
    Exception: tell_fault,
}
