"""The table of given matrices: the raw matrices, their blends, and both after post-processing.

The matrices don't name their benchmark, so no result of the paper is printed next to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from m2hf.fuse.tables.given.blend import STANDARDISED, Blend
from m2hf.fuse.tables.given.matrices import GivenMatrices, GivenQuerybanks
from m2hf.fuse.tables.post_processing import (
    TRANSDUCTIVE_HEADING,
    NamedScores,
    PostProcessing,
    Ranking,
)
from m2hf.fuse.tables.table import Flag, Table, TableBlock, TablePart, TableRow
from m2hf.keys import canonical_json, sha256_hex

TITLE = "given matrices"
TUNED_ON_TEST = "weights tuned on test"

_FLAGS = {
    "given": Flag(
        "weights given",
        "the weights were typed or read from a file; the data that they were tuned on is unknown",
    ),
    "validation": Flag(
        "weights tuned on validation", "the weights were tuned on validation matrices"
    ),
    "test": Flag(
        TUNED_ON_TEST,
        "the weights were tuned on the test set that is reported: the number is too high",
    ),
}


@dataclass(frozen=True, eq=False)
class MatrixTable:
    """How to make a table of given matrices, blends of them, and their querybanks."""

    matrices: GivenMatrices
    blends: Sequence[Blend] = ()
    banks: GivenQuerybanks = field(default_factory=GivenQuerybanks)
    post: PostProcessing = field(default_factory=PostProcessing)
    ranking: Ranking = field(default_factory=Ranking)

    def build(self) -> Table:
        """Rank everything."""
        raw = list(self._raw())
        processed = [
            made for one in raw for made in self.post.apply(one, self.banks.scores.get(one.name))
        ]
        chain = self._chain()
        digest = sha256_hex(canonical_json(chain).encode())
        blocks = [
            TableBlock(label, tuple(map(self._row, scores)), digest, chain)
            for label, scores in (("", raw), (TRANSDUCTIVE_HEADING, processed))
            if scores
        ]
        return Table((TablePart(TITLE, tuple(blocks), tuple(self._notes())),))

    def _row(self, scores: NamedScores) -> TableRow:
        return self.ranking.rank([scores], self.matrices.video_of_query).row()

    def _raw(self) -> Iterator[NamedScores]:
        for name, matrix in self.matrices.scores.items():
            yield NamedScores.raw(name, matrix)
        for blend in self.blends:
            flags = [_FLAGS[blend.origin]] if blend.origin in _FLAGS else []
            yield NamedScores.raw(blend.name, blend.apply(self.matrices.scores), flags)

    def _chain(self) -> dict[str, object]:
        queries, videos = self.matrices.shape
        return {
            "files": {**self.matrices.sha256, **self.banks.sha256},
            "queries": queries,
            "videos": videos,
            "blends": {
                blend.name: {
                    "rule": blend.rule,
                    "origin": blend.origin,
                    "terms": {name: term.model_dump() for name, term in blend.terms.items()},
                }
                for blend in self.blends
            },
        }

    def _notes(self) -> Iterator[str]:
        queries, videos = self.matrices.shape
        yield f"{queries} queries (rows), {videos} videos (columns)"
        if rule := self.ranking.rule(queries, len(set(self.matrices.video_of_query))):
            yield rule
        for blend in self.blends:
            if blend.rule in STANDARDISED:
                yield f"{blend.name}: " + ", ".join(
                    f"{name} "
                    + ", ".join(
                        f"{field.replace('_', ' ')} {getattr(term, field):.4g}"
                        for field in blend.parameters
                    )
                    for name, term in blend.terms.items()
                )
