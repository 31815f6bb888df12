"""A tail of a ledger gives what processes write to it."""

from pathlib import Path

from m2hf.ledger import LedgerWriter, TimeSpent
from m2hf.ledger_tail import LedgerTail

STREAM = "clip@12345678"


def test_a_tail_gives_each_new_line_once(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.done("before", STREAM, "ok", TimeSpent(0.1))
    tail = LedgerTail(tmp_path)
    assert not list(tail.new_events())
    writer.done("a", STREAM, "ok", TimeSpent(0.1))
    other = LedgerWriter(tmp_path)
    other.done("b", STREAM, "ok", TimeSpent(0.1))
    assert {event["id"] for event in tail.new_events()} == {"a", "b"}
    assert not list(tail.new_events())
    writer.close()
    other.close()
