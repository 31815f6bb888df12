"""Post-processing of score matrices (dual softmax, querybank normalisation), and their ranking.

Every matrix, raw or post-processed, is ranked in both directions and becomes rows of a table.
Post-processing that needs several queries at once is flagged, and gets a block of its own.

Q queries, V videos, B queries of a bank.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from m2hf.array_types import BoolArray, IntArray
from m2hf.fuse.scores.metrics import Ranks, ScoreMatrix, t2v_ranks, v2t_group_ranks, v2t_ranks
from m2hf.fuse.tables.paper import PaperResult
from m2hf.fuse.tables.table import AggregateMetrics, Flag, TableRow
from m2hf.fuse.tables.transductive import QUERYBANK_SCALE, DualSoftmax, Querybank

TRANSDUCTIVE = "transductive"
TRANSDUCTIVE_HEADING = "transductive: queries are seen together"


@dataclass(frozen=True, eq=False)
class NamedScores:
    """The scores behind one table row. scores: (Q, V) by direction; a missing direction is not
    ranked. known: (V,) videos with features, None for all."""

    name: str
    scores: Mapping[str, ScoreMatrix]
    flags: tuple[Flag, ...] = ()
    known: BoolArray | None = None

    @classmethod
    def raw(
        cls,
        name: str,
        scores_QV: ScoreMatrix,
        flags: Iterable[Flag] = (),
        covered_V: BoolArray | None = None,
    ) -> "NamedScores":
        """Scores without post-processing, the same in both directions."""
        return cls(name, {"t2v": scores_QV, "v2t": scores_QV}, tuple(flags), covered_V)


@dataclass(frozen=True)
class PostProcessing:
    """dual_softmax: scales, a row for each; querybank: the scale, used where there is a bank."""

    dual_softmax: tuple[float, ...] = ()
    querybank: float = QUERYBANK_SCALE

    def apply(self, raw: NamedScores, bank_BV: ScoreMatrix | None) -> Iterator[NamedScores]:
        """Post-process raw scores; raises ValueError for a bank of another shape."""
        scores_QV = raw.scores["t2v"]
        for scale in self.dual_softmax:
            flag = Flag(
                TRANSDUCTIVE,
                f"dual softmax at scale {scale:g}: each score is multiplied by its softmax over "
                "all test queries (T2V) or all videos (V2T); a search engine sees one query",
            )
            both = {
                "t2v": DualSoftmax.text_to_video(scores_QV, scale),
                "v2t": DualSoftmax.video_to_text(scores_QV, scale),
            }
            yield NamedScores(f"{raw.name} + dual softmax {scale:g}", both, (*raw.flags, flag))
        if bank_BV is not None:
            flag = Flag(
                TRANSDUCTIVE,
                f"querybank normalisation at scale {self.querybank:g} with {bank_BV.shape[0]} "
                "training queries that were scored against the test videos; T2V only",
            )
            normalised = Querybank.of(scores_QV, bank_BV, self.querybank, raw.known)
            name = f"{raw.name} + querybank {self.querybank:g}"
            yield NamedScores(name, {"t2v": normalised}, (*raw.flags, flag))


@dataclass(frozen=True)
class Ranking:
    """The ranking rule; group_maximum: V2T ranks videos by their best caption, where the default
    ranks single captions."""

    group_maximum: bool = False

    def rule(self, captions: int, videos: int) -> str:
        """The V2T rule for several captions per video, as a note; empty with one caption each."""
        if captions <= videos:
            return ""
        if self.group_maximum:
            return "V2T: a video ranks all videos by the best of their captions"
        return "V2T: a video's best caption is ranked among the captions of other videos"

    def rank(self, runs: Sequence[NamedScores], video_of_query: IntArray) -> "NamedRanks":
        """Rank the scores that one run, or each of several, has for one row."""
        rules: dict[str, Callable[[ScoreMatrix, IntArray], Ranks]] = {
            "t2v": t2v_ranks,
            "v2t": v2t_group_ranks if self.group_maximum else v2t_ranks,
        }
        ranks = {
            direction: [rules[direction](run.scores[direction], video_of_query) for run in runs]
            for direction in runs[0].scores
        }
        queries, videos = runs[0].scores["t2v"].shape
        groups = len(set(video_of_query.tolist()))
        candidates = {"t2v": videos, "v2t": groups if self.group_maximum else queries}
        return NamedRanks(runs[0].name, ranks, candidates, runs[0].flags)


@dataclass(frozen=True, eq=False)
class NamedRanks:
    """Ranks by direction and run, and the number of candidates by direction."""

    name: str
    ranks: Mapping[str, Sequence[Ranks]]
    candidates: Mapping[str, int]
    flags: tuple[Flag, ...]

    def row(self, paper: PaperResult | None = None) -> TableRow:
        """The row of all queries."""
        return TableRow(self.name, self._metrics(self.ranks), self.flags, paper=paper)

    def subset(self, name: str, chosen_V: BoolArray) -> TableRow | None:
        """The row of queries whose video is chosen; None where there is no such query."""
        ranks = {d: [run.of_videos(chosen_V) for run in runs] for d, runs in self.ranks.items()}
        if not all(len(runs[0].better) for runs in ranks.values()):
            return None
        return TableRow(self.name, self._metrics(ranks), self.flags, subset=name)

    def kind(self, name: str, chosen_Q: BoolArray) -> TableRow:
        """The row of the chosen queries; only T2V, since kinds are of queries and not of videos."""
        ranks = {"t2v": [run.of_queries(chosen_Q) for run in self.ranks["t2v"]]}
        return TableRow(self.name, self._metrics(ranks), self.flags, subset=name)

    def _metrics(self, ranks: Mapping[str, Sequence[Ranks]]) -> dict[str, AggregateMetrics]:
        return {d: AggregateMetrics.of(runs, self.candidates[d]) for d, runs in ranks.items()}
