"""Ways to score a gallery: a matrix as it is, or after dual softmax or querybank normalisation.

Each is ranked in both directions and becomes rows of a table; what needs to see several queries
at once stands apart and is flagged.

Q queries, V videos, B queries of a bank.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from m2hf.array_types import BoolArray, IntArray
from m2hf.fuse.scores.metrics import Ranks, Scores, t2v_ranks, v2t_group_ranks, v2t_ranks
from m2hf.fuse.tables.paper import PaperResult
from m2hf.fuse.tables.table import Flag, Row, Score
from m2hf.fuse.tables.transductive import QUERYBANK_SCALE, DualSoftmax, Querybank

TRANSDUCTIVE = "transductive"
APART = "transductive: queries are seen together"  # the heading of such rows


@dataclass(frozen=True, eq=False)
class Way:
    """scores: (Q, V) by direction; a direction that isn't there is not ranked. known: (V,)
    videos whose scores mean anything, None for all."""

    name: str
    scores: Mapping[str, Scores]
    flags: tuple[Flag, ...] = ()
    known: BoolArray | None = None

    @classmethod
    def raw(
        cls,
        name: str,
        scores_QV: Scores,
        flags: Iterable[Flag] = (),
        known_V: BoolArray | None = None,
    ) -> "Way":
        """The scores as they are, in both directions."""
        return cls(name, {"t2v": scores_QV, "v2t": scores_QV}, tuple(flags), known_V)


@dataclass(frozen=True)
class PostProcessing:
    """dual_softmax: scales, a row for each; querybank: the scale where there is a bank."""

    dual_softmax: tuple[float, ...] = ()
    querybank: float = QUERYBANK_SCALE

    def ways(self, raw: Way, bank_BV: Scores | None) -> Iterator[Way]:
        """What is made of a raw matrix; raises ValueError for a bank that doesn't fit."""
        scores_QV = raw.scores["t2v"]
        for scale in self.dual_softmax:
            flag = Flag(
                TRANSDUCTIVE,
                f"dual softmax at scale {scale:g}: each score is multiplied with its softmax over "
                "all test queries (T2V) or all videos (V2T); a search engine sees one query",
            )
            both = {
                "t2v": DualSoftmax.text_to_video(scores_QV, scale),
                "v2t": DualSoftmax.video_to_text(scores_QV, scale),
            }
            yield Way(f"{raw.name} + dual softmax {scale:g}", both, (*raw.flags, flag))
        if bank_BV is not None:
            flag = Flag(
                TRANSDUCTIVE,
                f"querybank normalisation at scale {self.querybank:g} with {bank_BV.shape[0]} "
                "training queries that were scored against the test videos; T2V alone",
            )
            normalised = Querybank.of(scores_QV, bank_BV, self.querybank, raw.known)
            name = f"{raw.name} + querybank {self.querybank:g}"
            yield Way(name, {"t2v": normalised}, (*raw.flags, flag))


@dataclass(frozen=True)
class Ranking:
    """How a direction is ranked; group_maximum: V2T ranks the videos' best captions, where the
    default ranks single captions."""

    group_maximum: bool = False

    def rule(self, captions: int, videos: int) -> str:
        """How V2T counts several captions of a video, for a note; empty where there is one each."""
        if captions <= videos:
            return ""
        if self.group_maximum:
            return "V2T: a video ranks all videos by the best of their captions"
        return "V2T: a video's best caption is ranked among the captions of other videos"

    def rank(self, ways: Sequence[Way], video_of_query: IntArray) -> "RankedWay":
        """One way to score, of one run or of several."""
        rules: dict[str, Callable[[Scores, IntArray], Ranks]] = {
            "t2v": t2v_ranks,
            "v2t": v2t_group_ranks if self.group_maximum else v2t_ranks,
        }
        ranks = {
            direction: [rules[direction](way.scores[direction], video_of_query) for way in ways]
            for direction in ways[0].scores
        }
        queries, videos = ways[0].scores["t2v"].shape
        groups = len(set(video_of_query.tolist()))
        candidates = {"t2v": videos, "v2t": groups if self.group_maximum else queries}
        return RankedWay(ways[0].name, ranks, candidates, ways[0].flags)


@dataclass(frozen=True, eq=False)
class RankedWay:
    """Ranks by direction and run, and the number of candidates by direction."""

    name: str
    ranks: Mapping[str, Sequence[Ranks]]
    candidates: Mapping[str, int]
    flags: tuple[Flag, ...]

    def row(self, paper: PaperResult | None = None) -> Row:
        """The row of all videos."""
        return Row(self.name, self._scores(self.ranks), self.flags, paper=paper)

    def subset(self, name: str, chosen_V: BoolArray) -> Row | None:
        """The row of queries whose video is chosen; None where there is no such query."""
        ranks = {w: [run.of_videos(chosen_V) for run in runs] for w, runs in self.ranks.items()}
        if not all(len(runs[0].better) for runs in ranks.values()):
            return None
        return Row(self.name, self._scores(ranks), self.flags, subset=name)

    def kind(self, name: str, chosen_Q: BoolArray) -> Row:
        """The row of the chosen queries, text to video: a video is of no kind."""
        ranks = {"t2v": [run.of_queries(chosen_Q) for run in self.ranks["t2v"]]}
        return Row(self.name, self._scores(ranks), self.flags, subset=name)

    def _scores(self, ranks: Mapping[str, Sequence[Ranks]]) -> dict[str, Score]:
        return {way: Score.of(runs, self.candidates[way]) for way, runs in ranks.items()}
