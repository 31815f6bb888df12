"""The web application: a search page, its results as JSON, and media files. Read-only.

GET /?q=TEXT               the page
GET /search.json?q=TEXT    SearchResults.as_json, or {"error": ...}
GET /media/N               the file of video N of the gallery, whole or a range of it
"""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from starlette.responses import Response as HTTPResponse
from starlette.routing import Route

from m2hf.errors import M2hfError, UsageError
from m2hf.fuse.features.stream import Stream
from m2hf.fuse.search.index import RUN
from m2hf.fuse.search.query import MAX_CHARACTERS
from m2hf.fuse.search.results import SearchResults
from m2hf.fuse.search.searcher import Searcher
from m2hf.fuse.search.web.cards import HitCard, HitCards
from m2hf.fuse.search.web.guard import Guard
from m2hf.fuse.search.web.media_files import MediaFiles
from m2hf.pages import templates
from m2hf.printable import printable
from m2hf.streams import THUMBNAIL

TOP = 12  # results of a query

_MAX_DIGITS = 18  # of the number of a video in a URL


class Site:
    """Handles requests; queries run one at a time in one thread, since they share a model."""

    def __init__(self, searcher: Searcher, media: MediaFiles) -> None:
        index = searcher.index
        named = index.layout.streams(THUMBNAIL)
        thumbnails = Stream.open(index.layout, named[0]) if named else None
        self._searcher, self._media, self._rows = searcher, media, index.rows
        self._cards = HitCards({v: n for n, v in enumerate(index.ids)}, media, thumbnails)
        self._query_thread = ThreadPoolExecutor(max_workers=1)
        self._style = (files("m2hf.fuse.search.web") / "style.css").read_text(encoding="utf-8")
        environment = templates("m2hf.fuse.search.web")
        environment.filters["printable"] = printable
        self._template = environment.get_template("page.html")

    def app(self, names: Iterable[str]) -> Starlette:
        """names: accepted host names in addition to localhost and IP addresses."""
        routes = [
            Route("/", self._page),
            Route("/search.json", self._json),
            Route("/media/{number}", self._file),
            Route("/style.css", self._stylesheet),
        ]
        return Starlette(routes=routes, middleware=[Middleware(Guard, names=tuple(names))])

    async def _page(self, request: Request) -> HTTPResponse:
        query = request.query_params.get("q")
        results, cards, error, status = None, list[HitCard](), "", 200
        if query is not None:
            try:
                results = await self._search(query)
                cards = list(self._cards.of(results))
            except M2hfError as raised:
                error, status = str(raised), _status(raised)
        page = self._template.render(
            dataset=self._searcher.index.layout.dataset,
            untrained="; ".join(self._searcher.index.flags.get(RUN, ())),
            query=query or "",
            longest=MAX_CHARACTERS,
            results=results,
            error=error,
            cards=cards,
        )
        return HTMLResponse(page, status)

    async def _json(self, request: Request) -> HTTPResponse:
        try:
            results = await self._search(request.query_params.get("q", ""))
        except M2hfError as raised:
            return JSONResponse({"error": str(raised)}, _status(raised))
        return JSONResponse(results.as_json())

    async def _file(self, request: Request) -> HTTPResponse:
        """The file of a video by its number, so that no path comes from a request."""
        text = request.path_params["number"]
        known = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
        if not known or int(text) >= len(self._rows):
            return PlainTextResponse("no such video\n", 404)
        found = self._media.find(self._rows[int(text)])
        if found.path is None:
            return PlainTextResponse(f"{found.reason}\n", 404)
        return FileResponse(found.path, media_type=found.type)

    async def _stylesheet(self, request: Request) -> HTTPResponse:
        return PlainTextResponse(self._style, media_type="text/css")

    async def _search(self, query: str) -> SearchResults:
        search = partial(self._searcher.search, query, TOP)
        return await asyncio.get_running_loop().run_in_executor(self._query_thread, search)


def _status(error: M2hfError) -> int:
    return 400 if isinstance(error, UsageError) else 500
