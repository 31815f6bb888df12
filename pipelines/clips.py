"""Run media extractors over the clips of a task, which are prefetched and decoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from m2hf.errors import ClipError, MediaError, ResourceError
from m2hf.extract.base import BatchedSession, MediaExtractor, MediaSession, PreparedClip
from m2hf.extract.media.control import check_ffmpeg
from m2hf.extract.media.decode import DecodedClip, decode
from m2hf.features import Features
from m2hf.ledger import TimeSpent
from m2hf.manifest import Row
from m2hf.media_root import MediaRoot
from m2hf.pipelines.job import Job
from m2hf.pipelines.outcomes import ATTEMPTS, Outcomes, Stopwatch, as_m2hf_errors
from m2hf.pipelines.prefetch import ClipRequest, DecodePrefetcher


@dataclass(frozen=True)
class _QueuedClip:
    """A clip whose rows are in the batch queue, and what its features need when they are done."""

    prepared: PreparedClip
    remark: str
    source: str
    spent: TimeSpent


class ClipRunner:
    """Runs media extractors over clips; a clip is decoded once for all of them."""

    def __init__(
        self,
        job: Job,
        sessions: Mapping[str, MediaSession],
        outcomes: Outcomes,
    ) -> None:
        self._job = job
        self._sessions = sessions
        self._outcomes = outcomes
        self._queued: dict[str, dict[str, _QueuedClip]] = {name: {} for name in sessions}

    def run(self, requests: Sequence[ClipRequest]) -> None:
        """Record an outcome of every clip; raises ResourceError if no further clip can succeed."""
        batched = {n: s for n, s in self._sessions.items() if isinstance(s, BatchedSession)}
        try:
            self._process_all(requests)
            for name, session in batched.items():
                while session.queue.waiting:
                    self._advance(name, session)
        finally:
            for session in batched.values():
                session.queue.clear()  # a session is used again after the task, even if that failed

    def _process_all(self, requests: Sequence[ClipRequest]) -> None:
        decode_one = partial(decode_clip, self._job)
        prefetcher = DecodePrefetcher(decode_one, requests, self._job.config.ahead)
        for request, decode_now in prefetcher.requests():
            item, names = request.row.id, request.names
            self._update_concurrent(prefetcher)
            self._outcomes.started(item, names, "decode")
            result = decode_now()
            if isinstance(result.outcome, MediaError):
                self._outcomes.failed(item, names, "decode", result.outcome, result.seconds)
                continue
            self._outcomes.decoded(item, result.seconds)
            self._update_concurrent(prefetcher)
            for name in names:
                self._extract(name, item, result.outcome)
        self._outcomes.concurrent = {}

    def _update_concurrent(self, prefetcher: DecodePrefetcher) -> None:
        self._outcomes.concurrent = {
            request.row.id: self._outcomes.streams(request.names)
            for request in prefetcher.in_flight()
        }

    def _extract(self, name: str, item: str, clip: DecodedClip) -> None:
        session, extractor = self._sessions[name], _media_extractor(self._job, name)
        remark = clip.remark(extractor.views(), extractor.sample_rates())
        if not isinstance(session, BatchedSession):
            work = partial(_extract_with_remark, session, clip, remark)
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
            features = _with_remark(prepared, remark)
            self._outcomes.keep(name, item, features, clip.sha256, watch.stop())
            return
        self._queued[name][item] = _QueuedClip(prepared, remark, clip.sha256, watch.stop())
        session.queue.add(item, prepared.rows)
        while session.queue.full:
            self._advance(name, session)

    def _advance(self, name: str, session: BatchedSession) -> None:
        """Run one batch; its time is divided equally among the clips in the queue."""
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
                    features = _with_remark(queued.prepared.finish(values), queued.remark)
            except ClipError as error:
                self._outcomes.failed(item, [name], "extract", error)
                continue
            self._outcomes.keep(name, item, features, queued.source, queued.spent)


def decode_clip(job: Job, request: ClipRequest) -> DecodedClip:
    """Decode a clip once for all its extractors.

    Raises MediaError for the clip, ResourceError where the machine is to blame.
    """
    row, media = request.row, [_media_extractor(job, name) for name in request.names]
    limits = job.config.media
    root = MediaRoot(job.media.resolve())
    if not limits.follow_links and root.inside(row.path) is None:
        raise MediaError(
            f"{row.path} is a link that leads out of --media; set extract.media.follow_links="
            "true to follow it"
        )
    views = sorted({v for e in media for v in e.views()}, key=repr)
    rates = sorted({r for e in media for r in e.sample_rates()})
    try:
        path = job.media / row.path
        clip = decode(path, views, rates, limits, start=row.start, end=row.end)
    except MediaError:
        _check_machine(job, root, row.path, outputs=len(views) + len(rates))
        raise
    if clip.damaged:
        _check_machine(job, root, row.path, outputs=len(views) + len(rates))
    if row.sha256 not in (None, clip.sha256):
        raise MediaError(f"sha256 is {clip.sha256}, the manifest has {row.sha256}")
    return clip


def _check_machine(job: Job, root: MediaRoot, path: str, outputs: int) -> None:
    """Raise ResourceError where not the file at `path` is to blame for a failed decode."""
    root.check_reachable(path)
    if (root.real / path).exists():
        check_ffmpeg(max(outputs, 1))
        return
    rows = job.manifest.rows
    if len(rows) > 1 and not any((root.real / row.path).exists() for row in rows):
        raise ResourceError(
            f"--media {job.media}: none of the {len(rows)} files of the manifest is "
            "there; mount their share, or give the root that their paths start from"
        )


def _media_extractor(job: Job, name: str) -> MediaExtractor:
    extractor = job.extractor(name)
    assert isinstance(extractor, MediaExtractor)
    return extractor


def clip_requests(rows: Sequence[Row], missing: Mapping[str, frozenset[str]]) -> list[ClipRequest]:
    """The clips that at least one extractor is missing, in the order of the rows."""
    requests = [
        ClipRequest(row, tuple(n for n, ids in missing.items() if row.id in ids)) for row in rows
    ]
    return [request for request in requests if request.names]


def _extract_with_remark(session: MediaSession, clip: DecodedClip, remark: str) -> Features:
    return _with_remark(session.extract(clip), remark)


def _with_remark(features: Features, remark: str) -> Features:
    return replace(features, reason="; ".join(filter(None, [features.reason, remark])))
