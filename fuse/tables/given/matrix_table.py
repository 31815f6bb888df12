"""The table of given matrices: each as it is, their blends, and what post-processing makes of both.

Nothing is known of where the matrices come from, so no paper's number stands beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from m2hf.errors import UsageError
from m2hf.fuse.scores.metrics import Scores
from m2hf.fuse.tables.given.blend import STANDARD, Blend, Term
from m2hf.fuse.tables.given.matrices import GivenMatrices
from m2hf.fuse.tables.given.tuning import tune
from m2hf.fuse.tables.post_processing import APART, PostProcessing, Ranking, Way
from m2hf.fuse.tables.table import Block, Flag, Part, Row, Table
from m2hf.keys import canonical_json, sha256_hex

TITLE = "given matrices"
TUNED_ON_TEST = "weights tuned on test"

_FLAGS = {
    "given": Flag(
        "weights given",
        "the weights were typed or read from a file; what they were chosen on is not known here",
    ),
    "validation": Flag(
        "weights tuned on validation", "the weights were found on validation matrices"
    ),
    "test": Flag(
        TUNED_ON_TEST,
        "the weights were chosen on the very test set that is reported: the number is too high",
    ),
}


@dataclass(frozen=True, eq=False)
class BlendSources:
    """Where the numbers of blends come from when they are not typed. given: the option that says
    so: "--weights", with its terms; "--val-matrix", with validation matrices; "--tune-on-test":
    the test matrices themselves; "" for none of them."""

    given: str = ""
    terms: Mapping[str, Term] = field(default_factory=dict)
    validation: GivenMatrices | None = None

    def resolve(self, blend: Blend, test: GivenMatrices) -> Blend:
        """The blend with all numbers that its rule reads; raises UsageError where none are."""
        if not blend.open_questions:
            return blend
        if self.terms:
            return blend.given(self.terms, self.given)
        if self.validation is not None:
            self._check(blend, self.validation, test)
            found = self.validation
            return tune(blend, found.scores, found.video_of_query, "validation")
        if self.given == "--tune-on-test":
            return tune(blend, test.scores, test.video_of_query, "test")
        if blend.rule in STANDARD:
            raise UsageError(
                f"--fuse {blend.rule} reads numbers of each matrix (centre, deviation); give them "
                "with --weights FILE, or --val-matrix NAME=FILE to find them on, or say "
                "--tune-on-test"
            )
        return blend

    def _check(self, blend: Blend, validation: GivenMatrices, test: GivenMatrices) -> None:
        for name in blend.terms:
            if name not in validation.scores:
                raise UsageError(f"--fuse {blend.rule}: no --val-matrix {name}=FILE to tune on")
            if validation.sha256[f"matrix {name}"] == test.sha256[f"matrix {name}"]:
                raise UsageError(
                    f"--val-matrix {name}: the same scores as --matrix {name}; to tune on what "
                    "is reported say --tune-on-test, which the table will tell"
                )


@dataclass(frozen=True, eq=False)
class MatrixTable:
    """matrices with blends of them; banks: querybanks by matrix."""

    matrices: GivenMatrices
    blends: Sequence[Blend] = ()
    banks: Mapping[str, Scores] = field(default_factory=dict)
    banks_sha256: Mapping[str, str] = field(default_factory=dict)
    post: PostProcessing = field(default_factory=PostProcessing)
    ranking: Ranking = field(default_factory=Ranking)

    def build(self) -> Table:
        """Rank everything; the blends have their numbers already."""
        raw = list(self._raw())
        made = [w for way in raw for w in self.post.ways(way, self.banks.get(way.name))]
        chain = self._chain()
        digest = sha256_hex(canonical_json(chain).encode())
        blocks = [
            Block(label, tuple(self._row(way) for way in ways), digest, chain)
            for label, ways in (("", raw), (APART, made))
            if ways
        ]
        return Table((Part(TITLE, tuple(blocks), tuple(self._notes())),))

    def _row(self, way: Way) -> Row:
        return self.ranking.rank([way], self.matrices.video_of_query).row()

    def _raw(self) -> Iterator[Way]:
        for name, matrix in self.matrices.scores.items():
            yield Way.raw(name, matrix)
        for blend in self.blends:
            flags = [_FLAGS[blend.origin]] if blend.origin in _FLAGS else []
            yield Way.raw(blend.name, blend.of(self.matrices.scores), flags)

    def _chain(self) -> dict[str, object]:
        queries, videos = self.matrices.shape
        return {
            "files": {**self.matrices.sha256, **self.banks_sha256},
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
            if blend.rule in STANDARD:
                yield f"{blend.name}: " + ", ".join(
                    f"{name} weight {t.weight:.4g}, bias {t.bias:.4g}, centre {t.centre:.4g}, "
                    f"deviation {t.deviation:.4g}"
                    for name, t in blend.terms.items()
                )
