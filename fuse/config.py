"""What a fusion run is told: which streams, which levels, how big a model, how to train it.

Reading a config needs no torch. Streams and levels are tables with defaults: a recipe names
only what it changes, adds a level with a section of its own, and drops one with
`enabled = false`.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from m2hf.config import Section

FRAMES = "frames"
CAPTIONS = "captions"
LATE_FUSION = "late_fusion"

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Level(Section):
    """One level of M2HF: what the caption query meets.

    stream: a role of the `streams` table. fusion "none": the stream alone, which must lie in
    the captions' space or be projected (`project`); the other forms fuse frames early with the
    stream: "append" puts what frames find in it beside them, "add" adds it to them, "concat" is
    the plain baseline.
    """

    stream: str
    fusion: Literal["none", "append", "add", "concat"] = "none"
    enabled: bool = True


DEFAULT_STREAMS = {
    FRAMES: "clip",
    CAPTIONS: "caption",
    "audio": "audio",
    "motion": "motion",
    "text": "text",
}
DEFAULT_LEVELS = {
    "visual": Level(stream=FRAMES),
    "audio_visual": Level(stream="audio", fusion="add"),
    "motion_visual": Level(stream="motion", fusion="add"),
    "text": Level(stream="text"),
}


class ModelConfig(Section):
    """Sizes of the trained parts: width of adapters and of attention, heads, dropout.

    joint: D, where every role that meets the captions is projected, so that no stream gives it;
    0: the captions' width.
    """

    joint: int = Field(default=0, ge=0)
    width: int = Field(default=256, ge=2)
    heads: int = Field(default=8, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads = {2 * self.heads}"
            )
        return self


class CompletionConfig(Section):
    """What early fusion sees of a video that lacks the modality.

    mode "fallback": nothing, and the level is the frames, exactly; "token": a learned row;
    "predict": rows predicted from the frames. weight: of the cosine loss of "predict";
    dropout: share of videos that "token" and "predict" hide the modality of, in training.
    """

    mode: Literal["fallback", "token", "predict"] = "fallback"
    weight: float = Field(default=1.0, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class LateConfig(Section):
    """How levels become one score; see `late_rules`. "affine" is fitted on the validation
    part; training end to end goes through it whatever the rule."""

    rule: Literal["affine", "z_sum", "z_mean", "sum", "reciprocal_rank", "best_rank", "max"] = (
        "affine"
    )


class BalanceConfig(Section):
    """How weak levels are kept learning when trained end to end; see `balance`."""

    form: Literal["none", "contribution", "dwa", "uncertainty", "gradient"] = "none"
    gamma: float = Field(default=1.0, ge=0)


class TrainConfig(Section):
    """How to train.

    epochs: at most; 0 keeps the model as it starts, whose visual level is zero-shot CLIP where
    frames and captions are of one CLIP and scored by `mean`. lr is for the heads,
    `scalar_lr_factor` times that for fusion scalars and temperature; warmup: share of all steps;
    clip: largest gradient norm; patience: epochs without a better validation result before
    stopping; level_loss: lambda, the weight of each level's own loss; val_fraction: share of
    train held out where the manifest has no val split.

    videos: of those with frames and a caption, "all" train, and one that a stream has no entry
    for (its extraction failed or never ran, or it wasn't imported) lacks the modality like one
    that is EMPTY there; with "intersection" only those train that every stream has an entry for.
    """

    epochs: int = Field(default=20, ge=0)
    batch_size: int = Field(default=256, ge=2)
    lr: float = Field(default=1e-3, gt=0)
    scalar_lr_factor: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    patience: int = Field(default=5, ge=1)
    seed: int = Field(default=0, ge=0)
    level_loss: float = Field(default=0.3, ge=0)
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    videos: Literal["all", "intersection"] = "all"


class EvalConfig(Section):
    """How a split is scored.

    memory_mb: MiB that scoring may hold at a time, beside the program itself; it changes no bit
    of the result. bank: how many training captions are scored as a querybank; 0 for none.
    """

    memory_mb: int = Field(default=2048, ge=1)
    bank: int = Field(default=0, ge=0)


class FusionConfig(Section):
    """A fusion run.

    streams: roles to extractors in the store, such as "clip" or, where the store has more than
    one, "clip@1234abcd"; project: those of `joint_roles` that lie in a space of their own, and
    are projected into the joint space by weights learned from scratch: equal widths don't make
    one space, so it is said here and never guessed; scoring "mean": cosine of pooled rows;
    "wti": weighted token-wise interaction of words and rows; strategy "end_to_end": all levels
    in one model; "ensemble": each level trained and stopped on its own, then late fused;
    precision "bf16": encoding by autocast, scores and losses in fp32.
    """

    streams: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_STREAMS))
    levels: dict[str, Level] = Field(default_factory=lambda: dict(DEFAULT_LEVELS))
    project: tuple[str, ...] = ()
    model: ModelConfig = ModelConfig()
    scoring: Literal["mean", "wti"] = "mean"
    completion: CompletionConfig = CompletionConfig()
    late: LateConfig = LateConfig()
    strategy: Literal["end_to_end", "ensemble"] = "end_to_end"
    balance: BalanceConfig = BalanceConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(default=1, ge=1)

    @field_validator("streams", mode="before")
    @classmethod
    def _over_default_streams(cls, given: Any) -> Any:
        return {**DEFAULT_STREAMS, **given} if isinstance(given, Mapping) else given

    @field_validator("levels", mode="before")
    @classmethod
    def _over_default_levels(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        merged: dict[str, Any] = {name: _merge(d, given.get(name)) for name, d in _defaults()}
        # Sorted, so that the order of levels is the same whoever wrote the table.
        merged.update((name, given[name]) for name in sorted(set(given) - set(merged)))
        return merged

    @field_validator("project")
    @classmethod
    def _sound_project(cls, given: tuple[str, ...], before: ValidationInfo) -> tuple[str, ...]:
        if "levels" in before.data:
            _check_project(given, _joint_roles(before.data["levels"]))
        return tuple(sorted(set(given)))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name, level in self.levels.items():
            _check_level(name, level, self.streams)
        if not self.active_levels:
            raise ValueError("every level is disabled; enable at least one")
        if self.model.joint and self.shared_roles:
            raise ValueError(
                f"model.joint = {self.model.joint}, but {', '.join(self.shared_roles)} give the "
                "joint space its width; leave model.joint out, or project them too"
            )
        return self

    @property
    def active_levels(self) -> dict[str, Level]:
        """The enabled levels, in the order in which every array has them."""
        return {name: level for name, level in self.levels.items() if level.enabled}

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that a run reads: frames, captions, and what the enabled levels name."""
        read = dict.fromkeys([FRAMES, CAPTIONS, *(v.stream for v in self.active_levels.values())])
        return tuple(read)

    @property
    def joint_roles(self) -> tuple[str, ...]:
        """Roles whose rows meet the query: they lie in the joint space, or are projected."""
        return _joint_roles(self.levels)

    @property
    def shared_roles(self) -> tuple[str, ...]:
        """Joint roles that are not projected: they are of one space, the joint one."""
        return tuple(role for role in self.joint_roles if role not in self.project)

    def only(self, name: str) -> Self:
        """The same with one level."""
        levels = {n: v.model_copy(update={"enabled": n == name}) for n, v in self.levels.items()}
        return self.model_copy(update={"levels": levels, "strategy": "end_to_end"})


def _defaults() -> list[tuple[str, dict[str, Any]]]:
    return [(name, level.model_dump()) for name, level in DEFAULT_LEVELS.items()]


def _merge(default: dict[str, Any], given: Any) -> Any:
    if given is None:
        return default
    return {**default, **given} if isinstance(given, Mapping) else given


def _joint_roles(levels: Mapping[str, Level]) -> tuple[str, ...]:
    alone = [v.stream for v in levels.values() if v.enabled and v.fusion == "none"]
    return tuple(dict.fromkeys([FRAMES, CAPTIONS, *alone]))


def _check_project(given: Sequence[str], joint: Sequence[str]) -> None:
    for role in given:
        if role not in joint:
            near = difflib.get_close_matches(role, joint, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"those that do: {', '.join(joint)}"
            raise ValueError(f"{role!r} is no stream that meets the captions by itself; {hint}")


def _check_level(name: str, level: Level, streams: Mapping[str, str]) -> None:
    if not _NAME.match(name) or name == LATE_FUSION:
        raise ValueError(
            f"level {name!r}: a name is lower-case letters, digits and _, and not {LATE_FUSION!r}"
        )
    if level.stream not in streams:
        raise ValueError(
            f"level {name!r} reads stream {level.stream!r}, which the table of streams has not; "
            f"it has {', '.join(streams)}"
        )
    if level.stream == CAPTIONS:
        raise ValueError(f"level {name!r} reads the captions, which are the queries")
    if level.stream == FRAMES and level.fusion != "none":
        raise ValueError(f'level {name!r} fuses frames with themselves; set fusion = "none"')
