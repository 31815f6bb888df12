"""The record of damaged items: kept next to a shard until that is written again."""

from pathlib import Path

import pytest

from m2hf.damage import clear_damage, read_damage, record_damage
from m2hf.errors import SchemaError
from m2hf.features import Features
from m2hf.shard import ShardItem, write_shard
from m2hf.shard_header import ShardHeader


def test_a_record_is_kept_until_it_is_cleared(tmp_path: Path) -> None:
    shard = tmp_path / "0-of-2.h5"
    assert read_damage(shard) == ()
    record_damage(shard, ["b", "a/ö"])
    assert read_damage(shard) == ("a/ö", "b")
    assert read_damage(tmp_path / "1-of-2.h5") == ()
    record_damage(shard, [])
    assert not list(tmp_path.iterdir())
    clear_damage(shard)


def test_writing_the_shard_clears_it(tmp_path: Path) -> None:
    shard = tmp_path / "0-of-1.h5"
    record_damage(shard, ["a"])
    header = ShardHeader("set", "clip", 1, "f" * 64, 0, 1, "m", {}, {}, {})
    write_shard(shard, header, [ShardItem("a", Features.empty("why", 2), "s")], "float32", 2)
    assert read_damage(shard) == ()


@pytest.mark.parametrize("text", ["", "[]", '{"items": "a"}', '{"items": [1]}', "{"])
def test_a_record_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "0-of-1.damaged.json").write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"0-of-1\.damaged\.json: "):
        read_damage(tmp_path / "0-of-1.h5")
