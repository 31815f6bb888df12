"""A report as one self-contained HTML file: no network, no font, one script of its own.

The Content-Security-Policy forbids all requests, and all scripts but the one with the given digest;
without that script only the filter is missing. Every thumbnail is embedded once.
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
from m2hf.fuse.report.query_cards import (
    FULL_BAR,
    MAX_CARDS,
    OPEN_CARDS,
    SAMPLED_CARDS,
    QueryCards,
)
from m2hf.fuse.report.recognised_text import RecognisedText, recognised_texts
from m2hf.fuse.report.source import ReportSource
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
class VideoSummary:
    """What tiles show of a video; thumbnail: the one nearest to the middle of the clip."""

    id: str
    thumbnail: ThumbnailImage | None
    texts: tuple[RecognisedText, ...]


def page(source: ReportSource, kinds: QueryKinds | None = None) -> str:
    """Render the page; every text is escaped. Equal sources give equal bytes, at any path.

    kinds: kinds of queries, with a row for each. Raises ShardError for a damaged item, UsageError
    for a query without a kind.
    """
    file, table = source.file, SimilarityTable(kinds=kinds).build([source.path])
    contribution = Contribution.of(file)
    queries = QueryCards.of(file, contribution)
    cards = list(queries.cards())
    script = files("m2hf.fuse.report").joinpath("page.js").read_text(encoding="utf-8")
    chains = document(table)["chains"]
    return (
        _environment()
        .get_template("page.html")
        .render(
            source=source,
            file=file,
            sheets=[sheet(part) for part in table.parts],
            chains={digest: _printable_lines(json_text(chain)) for digest, chain in chains.items()},
            comment=Markup(f"<!-- {hidden(table)}\n-->"),  # noqa: S704 - `hidden` is safe in a comment
            contribution=contribution,
            modalities=list(modalities(source)),
            charts=charts(source.curves),
            queries=len(queries.order),
            cards=cards,
            max_cards=MAX_CARDS,
            sampled_cards=SAMPLED_CARDS,
            open_cards=OPEN_CARDS,
            full_bar=FULL_BAR,
            videos=_videos(source, (tile.video for card in cards for tile in card.tiles)),
            script=Markup(script),  # noqa: S704 - our own
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(
                "ascii"
            ),
        )
    )


def _videos(source: ReportSource, wanted: Iterable[int]) -> dict[int, VideoSummary]:
    """Summaries by the index of the video."""
    return {index: _video(source, source.file.video_ids[index]) for index in sorted({*wanted})}


def _video(source: ReportSource, video: str) -> VideoSummary:
    stream = source.display_streams.get(THUMBNAIL)
    item = None if stream is None else stream.item(video)
    found = [] if item is None else list(thumbnails(item.features))
    middle = found[len(found) // 2] if found else None
    return VideoSummary(video, middle, tuple(recognised_texts(source.display_streams, video)))


def _environment() -> Environment:
    environment = templates("m2hf.fuse.report", "m2hf.fuse.tables", finalize=_printable)
    environment.filters["rank"] = lambda rank: f"{rank:g}"
    return environment


def _printable(value: Any) -> Any:
    """Escape control characters and bidi overrides in text; markup is safe already."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _printable_lines(text: str) -> Markup:
    return Markup("\n").join(printable(line) for line in text.split("\n"))
