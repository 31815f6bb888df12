"""The clips of a task: decoded ahead, each shown to every extractor that lacks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from m2hf.errors import ClipError, MediaError
from m2hf.extract.base import BatchedSession, MediaExtractor, MediaSession, PreparedClip
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.features import Features
from m2hf.ledger import TimeSpent
from m2hf.manifest import Row
from m2hf.pipelines.job import Job
from m2hf.pipelines.outcomes import ATTEMPTS, Outcomes, Stopwatch, as_m2hf_errors
from m2hf.pipelines.prefetch import DecodeAhead, Wanted


@dataclass(frozen=True)
class _Queued:
    """A clip whose rows wait for a batch, with what is known of it."""

    prepared: PreparedClip
    remark: str
    source: str
    spent: TimeSpent


class ClipRun:
    """Runs media extractors over clips, which are decoded once for all of them.

    careful: one clip at a time and nothing ahead, so that a death says which clip it was.
    """

    def __init__(
        self, job: Job, sessions: Mapping[str, MediaSession], outcomes: Outcomes, careful: bool
    ) -> None:
        self._job = job
        self._sessions = sessions
        self._outcomes = outcomes
        self._careful = careful
        self._queued: dict[str, dict[str, _Queued]] = {name: {} for name in sessions}

    def run(self, clips: Sequence[Wanted]) -> None:
        """Every clip ends in the outcomes. Raises ResourceError where no other could succeed."""
        batched = {n: s for n, s in self._sessions.items() if isinstance(s, BatchedSession)}
        try:
            self._show_all(clips)
            for name, session in batched.items():
                while session.queue.waiting:
                    self._advance(name, session)
        finally:
            for session in batched.values():
                session.queue.clear()  # sessions outlive the task, also one that stops here

    def _show_all(self, clips: Sequence[Wanted]) -> None:
        ahead = DecodeAhead(self._decode, clips, 0 if self._careful else self._job.config.ahead)
        for wanted, decode_now in ahead.coming():
            item, names = wanted.row.id, wanted.names
            self._now_beside(ahead)
            self._outcomes.started(item, names, "decode")
            decoded = decode_now()
            if isinstance(decoded.outcome, MediaError):
                self._outcomes.failed(item, names, "decode", decoded.outcome, decoded.seconds)
                continue
            self._outcomes.decoded(item, decoded.seconds)
            self._now_beside(ahead)
            for name in names:
                self._show(name, item, decoded.outcome)
        self._outcomes.beside = {}

    def _decode(self, wanted: Wanted) -> DecodedClip:
        row, media = wanted.row, [self._extractor(name) for name in wanted.names]
        clip = decode(
            self._job.media / row.path,
            views=sorted({v for e in media for v in e.views()}, key=repr),
            rates=sorted({r for e in media for r in e.sample_rates()}),
            limits=self._job.config.media,
            start=row.start,
            end=row.end,
        )
        if row.sha256 not in (None, clip.sha256):
            raise MediaError(f"sha256 is {clip.sha256}, the manifest has {row.sha256}")
        return clip

    def _now_beside(self, ahead: DecodeAhead) -> None:
        self._outcomes.beside = {
            wanted.row.id: self._outcomes.streams(wanted.names) for wanted in ahead.in_flight()
        }

    def _show(self, name: str, item: str, clip: DecodedClip) -> None:
        session, extractor = self._sessions[name], self._extractor(name)
        remark = clip.remark(extractor.views(), extractor.sample_rates())
        if not isinstance(session, BatchedSession):
            work = partial(_remarked, session, clip, remark)
            self._outcomes.attempt(item, name, clip.sha256, work)
            return
        self._outcomes.started(item, [name], "extract")
        watch = Stopwatch()
        try:
            with as_m2hf_errors(name):
                prepared = session.prepare(clip)
        except ClipError as error:
            self._outcomes.failed(item, [name], "extract", error, watch.stop().wall_s)
            return
        if isinstance(prepared, Features):
            features = _with(prepared, remark)
            self._outcomes.keep(name, item, features, clip.sha256, watch.stop())
            return
        self._queued[name][item] = _Queued(prepared, remark, clip.sha256, watch.stop())
        session.queue.add(item, prepared.rows)
        while session.queue.full or (self._careful and session.queue.waiting):
            self._advance(name, session)

    def _advance(self, name: str, session: BatchedSession) -> None:
        """Send a batch; what it takes is shared by the clips that wait."""
        waiting = session.queue.waiting
        share = 1 / len(waiting)
        for attempt in range(1, ATTEMPTS + 1):
            self._outcomes.started(waiting[0], [name], "extract", also=waiting[1:])
            watch = Stopwatch()
            try:
                with as_m2hf_errors(name):
                    finished = session.queue.advance()
                break
            except ClipError as error:
                if attempt == ATTEMPTS:
                    for item in session.queue.clear():
                        self._outcomes.failed(item, [name], "extract", error, attempt=attempt)
                    return
        spent = watch.stop().share(share)
        for item in waiting:
            queued = self._queued[name][item]
            self._queued[name][item] = replace(queued, spent=queued.spent + spent)
        for item, values in finished.items():
            queued = self._queued[name].pop(item)
            try:
                with as_m2hf_errors(name):
                    features = _with(queued.prepared.finish(values), queued.remark)
            except ClipError as error:
                self._outcomes.failed(item, [name], "extract", error)
                continue
            self._outcomes.keep(name, item, features, queued.source, queued.spent)

    def _extractor(self, name: str) -> MediaExtractor:
        extractor = self._job.extractor(name)
        assert isinstance(extractor, MediaExtractor)
        return extractor


def wanted_clips(rows: Sequence[Row], missing: Mapping[str, frozenset[str]]) -> list[Wanted]:
    """The clips that some extractor lacks, in the order of the rows."""
    wanted = [Wanted(row, tuple(n for n, ids in missing.items() if row.id in ids)) for row in rows]
    return [one for one in wanted if one.names]


def _remarked(session: MediaSession, clip: DecodedClip, remark: str) -> Features:
    return _with(session.extract(clip), remark)


def _with(features: Features, remark: str) -> Features:
    return replace(features, reason="; ".join(filter(None, [features.reason, remark])))
