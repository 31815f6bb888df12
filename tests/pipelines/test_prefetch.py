"""Prefetched clips keep their order, and no more than `depth` are decoded in advance."""

import threading

import pytest

from m2hf.errors import MediaError, ResourceError
from m2hf.extract.media.decode import DecodedClip
from m2hf.manifest import Row
from m2hf.pipelines.prefetch import ClipRequest, DecodePrefetcher


def clips(count: int) -> list[ClipRequest]:
    rows = [Row(id=f"v{i}", path=f"v{i}.mp4", split="train", captions=()) for i in range(count)]
    return [ClipRequest(row, ("clip",)) for row in rows]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_order_and_how_many_are_started(depth: int) -> None:
    started: list[str] = []

    def decode(request: ClipRequest) -> DecodedClip:
        started.append(request.row.id)
        if request.row.id == "v2":
            raise MediaError("broken")
        return DecodedClip(1.0, request.row.id, {}, {})

    outcomes = []
    prefetcher = DecodePrefetcher(decode, clips(6), depth)
    for i, (request, decode_now) in enumerate(prefetcher.requests()):
        assert len(started) <= i + depth
        result = decode_now()
        assert result.request is request
        assert len(started) <= i + 1 + depth
        outcomes.append(result.outcome)
    assert isinstance(outcomes[2], MediaError)
    assert [o.sha256 for o in outcomes if isinstance(o, DecodedClip)] == [
        "v0",
        "v1",
        "v3",
        "v4",
        "v5",
    ]


def test_clips_in_flight_are_listed() -> None:
    go = threading.Event()

    def decode(request: ClipRequest) -> DecodedClip:
        if request.row.id != "v0":
            assert go.wait(30)
        return DecodedClip(1.0, request.row.id, {}, {})

    prefetcher = DecodePrefetcher(decode, clips(4), 2)
    requests = prefetcher.requests()
    next(requests)[1]()
    assert [request.row.id for request in prefetcher.in_flight()] == ["v1", "v2"]
    go.set()
    for _, decode_now in requests:
        decode_now()
    assert prefetcher.in_flight() == []


def test_an_error_of_the_machine_is_raised_in_the_main_thread() -> None:
    def decode(request: ClipRequest) -> DecodedClip:
        raise ResourceError("disk full")

    for _, decode_now in DecodePrefetcher(decode, clips(2), 1).requests():
        with pytest.raises(ResourceError, match="disk full"):
            decode_now()
