"""Measures the precisions that a device has on a clip of the job, and keeps the fastest good one.

Seconds are of the models alone. A precision is good if each of its vectors has a cosine of at
least 0.999 to that of float32, which stays where nothing is a tenth faster.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np

from m2hf.array_types import FloatArray
from m2hf.errors import ClipError, ResourceError
from m2hf.extract.base import MediaExtractor
from m2hf.extract.inference.clock import CLOCK
from m2hf.extract.inference.precision import Kept, has_fast_bfloat16
from m2hf.extract.media.decode import DecodedClip
from m2hf.features import Features, Status
from m2hf.locks import lock
from m2hf.pipelines.clips import decode_clip
from m2hf.pipelines.job import Job
from m2hf.pipelines.outcomes import as_m2hf_errors
from m2hf.pipelines.precision import automatic
from m2hf.pipelines.prefetch import ClipRequest

LEAST_COSINE = 0.999
MOST_CLIPS = 16
_GAIN = 0.9
_WAIT_S = 0.5


@dataclass(frozen=True)
class Choice:
    """The precision of an extractor, and what was measured (None: no clip had its modality)."""

    name: str
    precision: Kept
    share: float | None = None
    """Seconds in bfloat16, as a share of those in float32; None where it was not tried."""
    cosine: float | None = None
    """Least cosine of a bfloat16 vector to float32's."""

    def __str__(self) -> str:
        if self.share is None or self.cosine is None:
            why = "bfloat16 was not measured: no fast bfloat16, or none of the first clips has it"
        else:
            why = f"bfloat16 takes {self.share:.2f} of its time, with a cosine of {self.cosine:.5f}"
        return f"precision of {self.name}: {self.precision} ({why})"


def choose(job: Job) -> Iterator[Choice]:
    """Measure each extractor whose precision is undecided, and record the choice in the store.

    Processes that start at the same time wait for the first one. Raises ResourceError where the
    machine lacks what the job needs, or the store can't be written.
    """
    job.configure_process()
    job.layout.record(job.buckets)
    path = job.layout.folder / "store.lock"
    with path.open("a") as file:
        while not lock(file, path):
            time.sleep(_WAIT_S)
        kept = job.layout.precisions()
        keys = {name: automatic(job.config, name) for name in job.undecided}
        for name in (name for name, key in keys.items() if key not in kept):
            choice = _measure(job, name)
            kept |= {keys[name]: choice.precision}
            job.layout.record_precisions(kept)
            yield choice


def _measure(job: Job, name: str) -> Choice:
    extractor = job.extractor(name)
    assert isinstance(extractor, MediaExtractor)
    ways = {p: extractor.model_copy(update={"precision": p}) for p in ("float32", "bfloat16")}
    if not has_fast_bfloat16(job.device):
        return Choice(name, "float32")
    for row in nsmallest(MOST_CLIPS, job.manifest.rows, key=lambda row: row.id):
        try:
            clip = decode_clip(job, ClipRequest(row, (name,)))
            with as_m2hf_errors(name):
                whole, whole_s = _timed(ways["float32"], clip, job.device)
        except ClipError:
            continue  # the run itself will record it
        if whole.status is not Status.OK:
            continue
        try:
            half, half_s = _timed(ways["bfloat16"], clip, job.device)
        except ResourceError:  # its vectors differ too much from float32's
            return Choice(name, "float32")
        share, cosine = half_s / whole_s, least_cosine(whole.values, half.values)
        good = cosine >= LEAST_COSINE and share < _GAIN
        return Choice(name, "bfloat16" if good else "float32", share, cosine)
    return Choice(name, "float32")


def _timed(extractor: MediaExtractor, clip: DecodedClip, device: str) -> tuple[Features, float]:
    """The features of a clip, and the seconds that the model took."""
    session = extractor.open(device)
    CLOCK.take()
    features = session.extract(clip)
    return features, CLOCK.take()


def least_cosine(one: FloatArray, other: FloatArray) -> float:
    """The least cosine between rows (N, D) of the same index."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())
