"""A report as one HTML file that needs nothing else: no network, no font, no script but its own.

A browser is told to fetch nothing and to run nothing but the script whose digest the page names;
without that script the page lacks the filter and nothing else. Every picture is in it once.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from m2hf.fuse.report.availability import modalities
from m2hf.fuse.report.chart import charts
from m2hf.fuse.report.contribution import Contribution
from m2hf.fuse.report.gallery import FULL, MOST, OPEN, SUCCESSES, Gallery
from m2hf.fuse.report.source import Source
from m2hf.fuse.report.words import Words, words
from m2hf.fuse.tables.formats import hidden
from m2hf.fuse.tables.grid import sheet
from m2hf.fuse.tables.kinds import QueryKinds
from m2hf.fuse.tables.records import document, json_text
from m2hf.fuse.tables.similarity_table import SimilarityTable
from m2hf.pages import templates
from m2hf.printable import printable
from m2hf.streams import THUMBNAIL
from m2hf.thumbnails import ThumbnailImage, thumbnails


@dataclass(frozen=True)
class Video:
    """A video as tiles show it; picture: the one nearest to the middle of the clip."""

    id: str
    picture: ThumbnailImage | None
    words: tuple[Words, ...]


def page(source: Source, kinds: QueryKinds | None = None) -> str:
    """The page; every text is escaped. Equal sources give equal bytes, wherever they lie.

    kinds: of the queries, which get lines of their own. Raises ShardError for a damaged item,
    UsageError for a query of no kind.
    """
    file, table = source.file, SimilarityTable(kinds=kinds).build([source.path])
    contribution = Contribution.of(file)
    gallery = Gallery.of(file, contribution)
    cards = list(gallery.cards())
    script = files("m2hf.fuse.report").joinpath("page.js").read_text(encoding="utf-8")
    chains = document(table)["chains"]
    return (
        _environment()
        .get_template("page.html")
        .render(
            source=source,
            file=file,
            sheets=[sheet(part) for part in table.parts],
            chains={digest: _lines(json_text(chain)) for digest, chain in chains.items()},
            comment=Markup(f"<!-- {hidden(table)}\n-->"),  # noqa: S704 - escaped where it was made
            contribution=contribution,
            modalities=list(modalities(source)),
            charts=charts(source.curves),
            gallery=gallery,
            cards=cards,
            most=MOST,
            successes=SUCCESSES,
            full=FULL,
            open=OPEN,
            videos=_videos(source, (tile.video for card in cards for tile in card.tiles)),
            script=Markup(script),  # noqa: S704 - our own
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(
                "ascii"
            ),
        )
    )


def _videos(source: Source, wanted: Iterable[int]) -> dict[int, Video]:
    """By index, each once."""
    return {index: _video(source, source.file.video_ids[index]) for index in sorted({*wanted})}


def _video(source: Source, video: str) -> Video:
    pictures = source.beside.get(THUMBNAIL)
    item = None if pictures is None else pictures.item(video)
    found = [] if item is None else list(thumbnails(item.features))
    middle = found[len(found) // 2] if found else None
    return Video(video, middle, tuple(words(source.beside, video)))


def _environment() -> Environment:
    environment = templates("m2hf.fuse.report", "m2hf.fuse.tables", finalize=_shown)
    environment.filters["rank"] = lambda rank: f"{rank:g}"
    return environment


def _shown(value: Any) -> Any:
    """Text from outside steers nothing; what is markup already was escaped where it was made."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _lines(text: str) -> Markup:
    return Markup("\n").join(printable(line) for line in text.split("\n"))
