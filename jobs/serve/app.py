"""The page's addresses, and what each answers."""

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from jobs.asked import Asked
from jobs.serve import requests
from jobs.serve.gate import YEAR_S, Gate
from jobs.serve.looking import Looking, box_text
from jobs.serve.searching import AT_ONCE, Found, Searching
from jobs.serve.teaching import Teaching
from pipeline.errors import SppError

HERE = Path(__file__).parent
IMAGES_A_PAGE, HITS_A_PAGE = 48, 60
PICTURE_KEPT_S = 3600
WINDOWS_DRAWN = 300  # of an image, at once: of more, lines cover lines
MOST_SIMILAR = 200  # more would be found in several passes
Sql = Callable[[str, int, int, threading.Event], Found]
VERDICTS = {"yes": True, "no": False}


def build(
    asked: Asked,
    token: str | None = None,
    sql: Sql | None = None,
    shown_from: Sequence[Path] | None = None,
) -> Gate:
    """Return the page over a store, behind its gate.

    Args:
        asked: the store.
        token: that everybody must have, if any.
        sql: who answers queries; None: this process.
        shown_from: folders whose image files may be shown; None: wherever the store says.
    """
    pages = Pages(asked, sql, shown_from)
    routes = [
        Route("/", pages.images),
        Route("/image", pages.image),
        Route("/windows", pages.windows),
        Route("/picture", pages.picture),
        Route("/search", pages.search),
        Route("/near", pages.near),
        Route("/class", pages.class_),
        Route("/training", pages.training),
        Route("/export", pages.export),
        Route("/classes", pages.begin, methods=["POST"]),
        Route("/mark", pages.mark, methods=["POST"]),
        Route("/undo", pages.undo, methods=["POST"]),
        Route("/train", pages.train, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    handlers: dict[Any, Any] = {SppError: pages.refused, HTTPException: pages.refused}
    return Gate(Starlette(routes=routes, exception_handlers=handlers), token)


class Pages:
    """Answers requests; several at the same time, each in a thread."""

    def __init__(
        self, asked: Asked, sql: Sql | None = None, shown_from: Sequence[Path] | None = None
    ) -> None:
        self._looking, self._teaching = Looking(asked, shown_from), Teaching(asked)
        self._searching = Searching(asked)
        self._sql = sql
        # A search takes all CPUs. Those that wait hold no thread: marks do not wait with them.
        self._turns = asyncio.Semaphore(AT_ONCE)
        # In addresses of pictures, which browsers keep: another store may have the same ids.
        self._version = asked.store_digest
        self._templates = Jinja2Templates(HERE / "templates")
        self._templates.env.filters["box"] = box_text

    def images(self, request: Request) -> Response:
        """All images, page by page."""
        start, at = requests.number(request, "start", 0), request.query_params.get("at") or None
        page = self._looking.page(start, IMAGES_A_PAGE, at)
        shown = {"shows_none": self._looking.shown_from == []}
        return self._page(request, "images.html", page=page, size=IMAGES_A_PAGE, **shown)

    def image(self, request: Request) -> Response:
        """One image, its objects and detections, and a place to draw a box."""
        image_id = requests.text(request, "id")
        return self._page(
            request,
            "image.html",
            image=self._looking.image(image_id),
            objects=self._looking.objects(image_id),
            detections=self._looking.detections(image_id),
            windows_drawn=WINDOWS_DRAWN,
            drawn_above=self._looking.drawn_above,
            found=self._teaching.found_in(request.cookies.get("spp_class", ""), image_id),
        )

    def windows(self, request: Request) -> Response:
        """The windows of one image."""
        return JSONResponse(self._looking.windows(requests.text(request, "id")))

    def picture(self, request: Request) -> Response:
        """An image, or a window of it, as a JPEG."""
        box, side = requests.box(request), requests.number(request, "side", 240)
        context = 0.0 if box is None else 0.12
        data = self._looking.picture(requests.text(request, "id"), box, side, context)
        kept = {"cache-control": f"private, max-age={PICTURE_KEPT_S}"}
        return Response(data, media_type="image/jpeg", headers=kept)

    async def search(self, request: Request) -> Response:
        """What a query in SQL finds: windows as pictures, anything else as a table."""
        return await self._in_turn(self._search, request)

    def _search(self, request: Request, left: threading.Event) -> Response:
        query, start = requests.text(request, "q"), requests.number(request, "start", 0)
        found = (self._sql or self._searching.sql)(query, start, HITS_A_PAGE, left)
        about = {"query": query, "start": start, "size": HITS_A_PAGE}
        return self._page(request, "search.html", found=found, **about)

    async def near(self, request: Request) -> Response:
        """The windows that are most like a box."""
        return await self._in_turn(self._near, request)

    def _near(self, request: Request, left: threading.Event) -> Response:
        del left  # passes over the vectors, seconds each
        # Of the store: a file of the server's is nobody's to look at.
        image_id = self._looking.image(requests.text(request, "id"))["image_id"]
        box, count = requests.box(request), requests.number(request, "top", 60)
        if box is None:
            raise HTTPException(400, "give the box, as x_min,y_min,x_max,y_max")
        found = self._searching.near(image_id, box, min(count, MOST_SIMILAR))
        about = {"image_id": image_id, "box_": box.tolist()}
        return self._page(request, "near.html", found=found, **about)

    async def _in_turn(
        self, answer: Callable[[Request, threading.Event], Response], request: Request
    ) -> Response:
        """Answer when it is its turn, and tell it when nobody waits for it any more."""
        left = threading.Event()
        leaving = asyncio.create_task(requests.leave(request, left))
        try:
            async with self._turns:
                if left.is_set():
                    return Response(status_code=499)  # nobody sees it
                return await run_in_threadpool(answer, request, left)
        finally:
            leaving.cancel()

    def class_(self, request: Request) -> Response:
        """A class that is being taught: its marks, what it finds, and how good it is."""
        start = requests.number(request, "start", 0)
        taught = self._teaching.page(requests.text(request, "key"), start)
        return self._page(request, "class.html", taught=taught)

    def training(self, request: Request) -> Response:
        """How far a training is."""
        return JSONResponse(self._teaching.progress(requests.text(request, "key")))

    def export(self, request: Request) -> Response:
        """A class's marks as a file."""
        kind = requests.text(request, "as")
        data, media = self._teaching.export(requests.text(request, "key"), kind)
        kept = {"content-disposition": f'attachment; filename="marks.{kind}"'}
        return Response(data, media_type=media, headers=kept)

    async def begin(self, request: Request) -> Response:
        """Begin a class, or go on with the one of that name."""
        asked = await requests.content(request)
        return JSONResponse(
            {"key": await run_in_threadpool(self._teaching.begin, str(asked.get("name", "")))}
        )

    async def mark(self, request: Request) -> Response:
        """Keep a person's yes or no."""
        asked = await requests.content(request)
        verdict = str(asked.get("verdict"))
        if verdict not in VERDICTS:
            raise HTTPException(400, f"the verdict is {verdict}: give yes or no")
        said = (str(asked.get("image_id", "")), asked.get("box"), VERDICTS[verdict])
        about = (requests.who(request), requests.why(asked))
        key = str(asked.get("key", ""))
        return JSONResponse(await run_in_threadpool(self._teaching.mark, key, *said, *about))

    async def undo(self, request: Request) -> Response:
        """Withdraw the last mark of a person."""
        key = str((await requests.content(request)).get("key", ""))
        return JSONResponse(
            await run_in_threadpool(self._teaching.undo, key, requests.who(request))
        )

    async def train(self, request: Request) -> Response:
        """Begin to train on the marks there are."""
        asked = await requests.content(request)
        return JSONResponse(
            await run_in_threadpool(self._teaching.train, str(asked.get("key", "")))
        )

    def refused(self, request: Request, error: Exception) -> Response:
        """Say what is wrong, on a page or to the script."""
        status = error.status_code if isinstance(error, HTTPException) else 400
        text = error.detail if isinstance(error, HTTPException) else str(error)
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"error": text}, status)
        query = request.query_params.get("q", "")  # stays in its field, to be mended
        return self._page(request, "refused.html", status, text=text, query=query)

    def _page(self, request: Request, name: str, status: int = 200, **content: Any) -> Response:
        chosen = request.cookies.get("spp_class", "")
        every = {
            "store": self._looking.store,
            "store_name": self._looking.asked.name,
            "classes": self._teaching.classes(),
            "chosen": chosen,
            "who": requests.name(request),
            "version": self._version,
            "verdicts": self._teaching.verdicts(chosen),
        }
        answer = self._templates.TemplateResponse(request, name, every | content, status)
        answer.headers["cache-control"] = "no-store"
        if not requests.browser(request):
            # Lax: it has to come along where a person follows a link to the page, and is no secret.
            kept: Any = {"max_age": YEAR_S, "httponly": True, "samesite": "lax"}
            answer.set_cookie(requests.BROWSER_COOKIE, secrets.token_hex(3), **kept)
        return answer
