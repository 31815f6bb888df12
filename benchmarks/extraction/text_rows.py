"""`python -m benchmarks.extraction.text_rows --annotations didemo/val_data.json.gz`: which vectors
of a text with several lines find its video, by the sentence encoder of `text`.

DiDeMo describes a video several times. One description is the query, and the others are the lines
of its text: alone; with five scraps, as OCR reads them beside a logo and a clock; and with as many
descriptions of other videos, which have nothing in common. T2V R@1 and R@5 in percent.

Q queries, one of each of V videos; N rows, D width.
"""

import argparse
import gzip
import json
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from m2hf.extract.asr import Asr
from m2hf.extract.networks.sentence_encoder import SentenceEncoder
from m2hf.extract.text import Text, TextSession
from m2hf.features import Features, unit_rows
from m2hf.streams import ASR, OCR

Array = NDArray[np.float32]
Lines = Sequence[str]

_SCRAPS = ("subscribe", "www", "HD", "LIVE", "09:41", "REC", "follow us", "channel 7 news")
_WIDTH = len(Asr.columns)


@dataclass(frozen=True)
class RowsResult:
    """T2V recall in percent of one representation of the texts."""

    texts: str
    compared: str
    r1: float
    r5: float

    @classmethod
    def of(cls, texts: str, compared: str, scores_QV: Array) -> Self:
        rank_Q = (scores_QV >= np.diag(scores_QV)[:, None]).sum(axis=1)
        r1, r5 = (100 * float((rank_Q <= k).mean()) for k in (1, 5))
        return cls(texts, compared, r1, r5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table as Markdown, then all numbers as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.extraction.text_rows", description=__doc__
    )
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE.json.gz")
    parser.add_argument("--model", default=SentenceEncoder().model)
    given = parser.parse_args(arguments)
    encoder = SentenceEncoder(model=given.model)
    queries, texts = read(given.annotations)
    queries_QD = encoder.open("cpu").encode(queries, "query")
    session = Text(encoder=encoder).open("cpu")
    results = [
        result
        for name, lines in texts.items()
        for result in compare(name, lines, queries_QD, encoder, session)
    ]
    print("| lines | compared | R@1 | R@5 |\n|---|---|---|---|")
    for one in results:
        print(f"| {one.texts} | {one.compared} | {one.r1:.1f} | {one.r5:.1f} |")
    print(json.dumps([asdict(one) for one in results]))
    return 0


def read(path: Path) -> tuple[list[str], dict[str, list[list[str]]]]:
    """A query for each video with three descriptions or more, and the lines of each video's text,
    by kind of text."""
    described = defaultdict(list)
    for row in json.loads(gzip.decompress(path.read_bytes())):
        described[row["video"]].append(row["description"].strip())
    chance = random.Random(0)  # noqa: S311
    queries, lines = [], []
    for _, texts in sorted(described.items()):
        if len(texts) >= 3:
            first, *rest = chance.sample(texts, len(texts))
            queries.append(first)
            lines.append(rest)
    everything = [text for texts in described.values() for text in texts]
    scraps = [[*own, *chance.sample(_SCRAPS, 5)] for own in lines]
    others = [[*own, *chance.sample(everything, len(own))] for own in lines]
    for text in (*scraps, *others):
        chance.shuffle(text)
    return queries, {"descriptions": lines, "and scraps": scraps, "and those of others": others}


def compare(
    name: str,
    lines: Sequence[Lines],
    queries_QD: Array,
    encoder: SentenceEncoder,
    session: TextSession,
) -> list[RowsResult]:
    """The results of each representation of texts."""
    plain = encoder.open("cpu")
    by_line = [plain.encode_sentences(list(text)) for text in lines]
    whole = np.concatenate([plain.encode_sentences([" ".join(text)]) for text in lines])
    extracted = [session.extract({OCR: _NOTHING, ASR: _heard(text)}).values for text in lines]
    scores = {
        "mean of the lines": queries_QD @ _means(by_line).T,
        "best line": _best(queries_QD, by_line),
        "whole text": queries_QD @ whole.T,
        "rows of `text`: their mean": queries_QD @ _means(extracted).T,
        "rows of `text`: the best": _best(queries_QD, [unit_rows(rows) for rows in extracted]),
    }
    return [RowsResult.of(name, compared, found) for compared, found in scores.items()]


_NOTHING = Features.empty("nothing read", 1, texts=True)


def _heard(lines: Lines) -> Features:
    times, ones = np.arange(len(lines), dtype=float), np.ones(len(lines))
    return Features(np.zeros((len(lines), _WIDTH)), times, times + 1, tuple(lines), ones)


def _means(rows_ND: Sequence[Array]) -> Array:
    return unit_rows(np.array([rows.mean(axis=0) for rows in rows_ND]))


def _best(queries_QD: Array, rows_ND: Sequence[Array]) -> Array:
    return np.array([(queries_QD @ rows.T).max(axis=1) for rows in rows_ND]).T


if __name__ == "__main__":
    sys.exit(main())
