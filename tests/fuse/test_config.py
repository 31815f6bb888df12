"""Tables of streams and levels: changed, dropped and added by config alone."""

from typing import Any, get_args

import pytest

from m2hf.config import parse
from m2hf.errors import ConfigError
from m2hf.fuse.config import FusionConfig, LateConfig
from m2hf.fuse.level_table import DEFAULT_LEVELS, Level
from m2hf.fuse.scores.late_rules import LATE_RULES, TRAINED


def config(**data: Any) -> FusionConfig:
    return parse(FusionConfig, data)


def test_every_late_rule_can_be_configured() -> None:
    assert get_args(LateConfig.model_fields["rule"].annotation) == tuple(LATE_RULES)


def test_default_has_the_four_levels_of_the_paper() -> None:
    assert config().active_levels == DEFAULT_LEVELS
    assert config().roles == ("frames", "captions", "audio", "motion", "text")
    assert config().joint_roles == ("frames", "captions", "text")


def test_words_are_off_by_default_and_last() -> None:
    assert config().word_levels == {}
    told = config(levels={"words": {"enabled": True}, "depth": {"stream": "audio"}})
    assert list(told.active_levels) == [*DEFAULT_LEVELS, "depth", "words"]
    assert list(told.word_levels) == ["words"]
    assert told.joint_roles == ("frames", "captions", "text", "audio")
    assert (
        config(levels={"text": {"enabled": False}, "words": {"enabled": True}}).roles[-1] == "text"
    )


def test_one_stream_is_renamed_without_naming_the_others() -> None:
    streams = config(streams={"frames": "clip@1234abcd"}).streams
    assert streams["frames"] == "clip@1234abcd"
    assert streams["audio"] == "audio"


def test_a_level_is_dropped() -> None:
    dropped = config(levels={"text": {"enabled": False}})
    assert list(dropped.active_levels) == ["visual", "audio_visual", "motion_visual"]
    assert "text" not in dropped.roles


def test_a_level_is_added() -> None:
    added = config(
        streams={"depth": "depth"}, levels={"depth_visual": {"stream": "depth", "fusion": "append"}}
    )
    assert list(added.active_levels) == [*DEFAULT_LEVELS, "depth_visual"]
    assert added.active_levels["depth_visual"] == Level(stream="depth", fusion="append")
    assert added.roles[-1] == "depth"


def own_query(level: str, **row: Any) -> dict[str, Any]:
    """A level that is compared with captions of a role of its own."""
    return {
        "streams": {"sentences": "caption_sentence"},
        "levels": {level: {"query": "sentences", **row}},
    }


def test_a_query_role_has_a_space_of_its_own() -> None:
    asked = config(**own_query("text"))
    assert asked.roles == ("frames", "captions", "audio", "motion", "text", "sentences")
    assert asked.query_roles == ("captions", "sentences")
    assert asked.spaces == {
        "frames": "captions",
        "captions": "captions",
        "text": "sentences",
        "sentences": "sentences",
    }
    assert asked.only("visual").query_roles == ("captions",)
    assert asked.only("text").spaces["text"] == "sentences"
    projected = config(project=["text"], **own_query("text"))
    assert projected.comparable
    assert not projected.comparable_by("sentences")
    assert projected.shared_by("sentences") == ("sentences",)
    wholly = config(project=["text", "sentences"], model={"joint": 8}, **own_query("text"))
    assert wholly.shared_by("sentences") == ()


def test_the_anchor_of_a_space_is_a_stream_that_is_not_projected() -> None:
    levels = {n: {"stream": s, "query": "sentences"} for n, s in (("a", "audio"), ("m", "motion"))}
    given = {"streams": {"sentences": "caption_sentence"}, "levels": levels}
    assert config(**given).anchor("captions") == "frames"
    assert config(**given).anchor("sentences") == "audio"
    assert config(project=["audio"], **given).anchor("sentences") == "motion"
    assert config(project=["audio"], **given).comparable_by("sentences")


def test_a_config_with_one_query_role_is_stored_as_before() -> None:
    assert "query" not in config().model_dump_json()
    asked = config(**own_query("text"))
    assert asked.model_dump()["levels"]["text"]["query"] == "sentences"
    assert parse(FusionConfig, asked.model_dump(mode="json")) == asked


def test_the_resolved_config_reads_back_as_itself() -> None:
    given = config(
        streams={"z": "z"},
        levels={"text": {"enabled": False}, "b": {"stream": "z"}, "a": {"stream": "z"}},
    )
    again = parse(FusionConfig, given.model_dump(mode="json"))
    assert again == given
    assert list(again.active_levels) == list(given.active_levels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"levels": {"depth": {"stream": "depht"}}}, "reads stream 'depht'.*has frames, captions"),
        ({"levels": {"depth": {}}}, r"levels\.depth\.stream"),
        ({"levels": {"late_fusion": {"stream": "text"}}}, "not 'late_fusion'"),
        ({"levels": {"a/b": {"stream": "text"}}}, "lower-case letters"),
        ({"levels": {"own": {"stream": "captions"}}}, "which are the queries"),
        ({"levels": {"v": {"stream": "frames", "fusion": "append"}}}, "with themselves"),
        ({"levels": {"v": {"stream": "frames", "fusion": "words"}}}, "with themselves"),
        ({"levels": {n: {"enabled": False} for n in DEFAULT_LEVELS}}, "every level is disabled"),
        ({"levels": {"text": {"query": "clap"}}}, "query 'clap', which is not in fuse.streams"),
        ({"levels": {"text": {"query": "text"}}}, "'text': its query 'text' is no role of capt"),
        ({"levels": {"text": {"query": "frames"}}}, "its query 'frames' is no role of captions"),
        (
            {"levels": {"text": {"query": "audio"}}},
            "'audio_visual' reads 'audio', which are the q",
        ),
        (own_query("visual"), "'visual' scores frames, .*; leave its query out, or name other cap"),
        (own_query("audio_visual"), "'audio_visual' scores frames, which are compared with 'capt"),
        (own_query("a", stream="text"), "'text' and 'a' compare 'text' with 'captions' and with"),
        (
            {"model": {"joint": 8}, **own_query("text")},
            "joint = 8, but frames, captions, text, s",
        ),
        ({"levels": {"visual": {"fuson": "none"}}}, "did you mean 'fusion'"),
        ({"model": {"width": 100, "heads": 8}}, "multiple of 2 x heads = 16"),
        ({"train": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"train": {"lr": 1e38}}, r"train\.lr = 1e\+38: .*less than or equal to 1000000"),
        ({"train": {"scalar_lr_factor": 1e38}}, r"scalar_lr_factor = 1e\+38"),
        ({"train": {"weight_decay": 1e38}}, r"weight_decay = 1e\+38"),
        ({"levels": 3}, "levels = 3"),
        ({"streams": 3}, "streams = 3"),
    ],
)
def test_mistakes_are_one_clear_line(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config(**data)
    assert "\n" not in str(caught.value)


def test_training_uses_every_rule_that_is_fitted() -> None:
    used = {rule: LateConfig.model_validate({"rule": rule}).trained for rule in LATE_RULES}
    assert used == {rule: rule if rule in TRAINED else "mention" for rule in LATE_RULES}
