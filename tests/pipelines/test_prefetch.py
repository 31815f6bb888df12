"""Decoding ahead keeps the order, the bound and every outcome."""

import threading

import pytest

from m2hf.errors import MediaError, ResourceError
from m2hf.extract.media.decode import DecodedClip
from m2hf.manifest import Row
from m2hf.pipelines.prefetch import DecodeAhead, Wanted


def clips(count: int) -> list[Wanted]:
    rows = [Row(id=f"v{i}", path=f"v{i}.mp4", split="train", captions=()) for i in range(count)]
    return [Wanted(row, ("clip",)) for row in rows]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_order_and_how_many_are_begun(ahead: int) -> None:
    begun: list[str] = []

    def decode(wanted: Wanted) -> DecodedClip:
        begun.append(wanted.row.id)
        if wanted.row.id == "v2":
            raise MediaError("broken")
        return DecodedClip(1.0, wanted.row.id, None, None)

    came = []
    run = DecodeAhead(decode, clips(6), ahead)
    for i, (wanted, decode_now) in enumerate(run.coming()):
        assert len(begun) <= i + ahead
        done = decode_now()
        assert done.wanted is wanted
        assert len(begun) <= i + 1 + ahead
        came.append(done.outcome)
    assert isinstance(came[2], MediaError)
    assert [o.sha256 for o in came if isinstance(o, DecodedClip)] == ["v0", "v1", "v3", "v4", "v5"]


def test_what_is_decoded_in_advance_is_named_while_it_is() -> None:
    go = threading.Event()

    def decode(wanted: Wanted) -> DecodedClip:
        if wanted.row.id != "v0":
            assert go.wait(30)
        return DecodedClip(1.0, wanted.row.id, None, None)

    run = DecodeAhead(decode, clips(4), 2)
    coming = run.coming()
    next(coming)[1]()
    assert [wanted.row.id for wanted in run.in_flight()] == ["v1", "v2"]
    go.set()
    for _, decode_now in coming:
        decode_now()
    assert run.in_flight() == []


def test_an_error_of_the_machine_reaches_who_waits() -> None:
    def decode(wanted: Wanted) -> DecodedClip:
        raise ResourceError("disk full")

    for _, decode_now in DecodeAhead(decode, clips(2), 1).coming():
        with pytest.raises(ResourceError, match="disk full"):
            decode_now()
