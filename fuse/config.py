"""The [fuse] section of a recipe: streams, levels, model, training, evaluation; without torch."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from m2hf.config import Section
from m2hf.fuse.level_table import (
    CAPTIONS,
    DEFAULT_LEVELS,
    DEFAULT_STREAMS,
    FRAMES,
    OPTIONAL_LEVELS,
    Level,
    check_levels,
    check_project,
    over_default_levels,
    spaces,
)


class ModelConfig(Section):
    """Sizes of the trained parts."""

    joint: int = Field(default=0, ge=0, le=1 << 16)
    """Width of a joint space where `fuse.project` lists every role that is compared with its
    captions, so that no stream gives it; 0: the captions' width."""
    width: int = Field(default=256, ge=2, le=1 << 14)
    """Hidden width of adapters and of cross-attention; a multiple of 2 x heads."""
    heads: int = Field(default=8, ge=1, le=1 << 10)
    """Attention heads of early fusion."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout probability in adapters and early fusion."""
    standardise: bool = True
    """Whether streams outside the joint space are standardised by column, with mean and deviation
    of the training part: those of levels with early fusion, and those in `fuse.project`."""
    own_captions: bool = True
    """Whether each level but that of the frames has a caption adapter and a temperature of its
    own, in a network with several levels. A video without the modality keeps the score of its
    frames. Our reading."""
    projection: Literal["ridge", "linear", "adapted"] = "ridge"
    """Of roles in `fuse.project`. ridge: a linear map that starts at the ridge solution; linear: at
    random; both also centre and map captions where frames are projected; adapted: LayerNorm, a
    linear map and a residual adapter, at random. Our reading."""
    input_dropout: float = Field(default=0.7, ge=0, lt=1)
    """Dropout probability of the columns of a projected video stream, unless `adapted`."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} must be a multiple of 2 x heads = {2 * self.heads}"
            )
        return self


class CompletionConfig(Section):
    """What early fusion reads of a video that lacks the modality; our reading."""

    mode: Literal["fallback", "token", "predict"] = "fallback"
    """fallback: nothing, so that the level equals the frames exactly; token: one learned row;
    predict: rows predicted from the frames."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of the completion loss of `predict`: 1 - cosine of predicted and real rows."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Modality dropout of `token` and `predict`: the share of videos whose modality is hidden
    in training."""


_FITTED = ("affine", "mention", "mention_mixture")  # late rules that training can use


class LateConfig(Section):
    """How the levels' scores become one score."""

    rule: Literal[
        "affine",
        "mention",
        "mention_mixture",
        "z_sum",
        "z_mean",
        "sum",
        "reciprocal_rank",
        "best_rank",
        "max",
    ] = "mention"
    """affine: weighted sum of standard scores; mention: sum of softplus of weighted standard
    scores, so that a level speaks only where it is sure; mention_mixture: mention plus the log of a
    mixture of the levels, so that the surest may answer alone; these are fitted on the validation
    part.
    z_sum, z_mean: sum and mean of standard scores; sum: of raw scores; reciprocal_rank: sum of
    1 / (60 + rank) (Cormack et al., 2009); best_rank, max: the best rank or standard score of any
    level. End-to-end training uses a fitted rule; with another it uses mention, and the rule
    applies to the scores of evaluation. Our reading."""

    @property
    def trained(self) -> str:
        """The rule of end-to-end training."""
        return self.rule if self.rule in _FITTED else "mention"


class BalanceConfig(Section):
    """Balance loss of end-to-end training, which keeps weak levels learning; our reading."""

    form: Literal["none", "mixture", "contribution", "dwa", "uncertainty", "gradient"] = "none"
    """mixture: likelihood of a mixture of the levels, in place of the sum of their own losses, so
    that a level need answer only what it can. Without measurable gain: contribution: KL divergence
    of each level's share in the positive's score from uniform; dwa: dynamic weight average (Liu et
    al., 2019); uncertainty: learned log-variance of each level (Kendall et al., 2018); gradient:
    smaller gradient for levels that are ahead (OGM-GE, Peng et al., 2022)."""
    gamma: float = Field(default=1.0, ge=0)
    """Strength of all forms but `mixture`; 0 switches them off."""


class TrainConfig(Section):
    """Training: AdamW, linear warm-up, cosine decay, early stopping on validation."""

    epochs: int = Field(default=20, ge=0, le=100_000)
    """Most epochs. 0 keeps the initial model, scored by `mean`: zero-shot where frames and captions
    share a space, else ridge regression."""
    batch_size: int = Field(default=256, ge=2, le=100_000)
    """Captions in a batch, over all processes."""
    lr: float = Field(default=1e-3, gt=0, le=1e6)
    """Peak learning rate of adapters and heads."""
    scalar_lr_factor: float = Field(default=10.0, gt=0, le=1e6)
    """Learning rate of late-fusion scalars and temperature, as a multiple of `lr`."""
    weight_decay: float = Field(default=0.01, ge=0, le=1e6)
    """AdamW's weight decay of matrices; vectors and scalars have none."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps in which the learning rate rises linearly."""
    average: float = Field(default=1.0, ge=0, le=1)
    """The weights that are validated and kept are a mean over about the last `average` of the steps
    so far. 1: over all, the start included; 0: those of the last step. Our reading."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; a larger one is scaled down."""
    patience: int = Field(default=3, ge=1, le=100_000)
    """Epochs without a better validation result before training stops."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Seed of initial weights, order of batches and dropout."""
    level_loss: float = Field(default=0.3, ge=0)
    """Lambda, the weight of each level's own contrastive loss next to that of the fused score."""
    level_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which each caption goes without a level in the fused score of end-to-end
    training; one that covers its video always stays. It keeps weak levels learning."""
    val_fraction: float = Field(default=0.1, gt=0, lt=1)
    """Share of train held out for validation where the manifest has no val split."""
    videos: Literal["all", "intersection"] = "all"
    """Training videos, of those with frames and a caption. all: a video without an entry in a
    stream (failed, not extracted, not imported) lacks that modality, as an EMPTY one does;
    intersection: only videos with an entry in every stream."""


class EvalConfig(Section):
    """Scoring of a split."""

    memory_mb: int = Field(default=2048, ge=1, le=10_000_000)
    """Memory for scoring in MiB, in addition to the program itself. Training holds the score
    matrices of validation in up to half as much again, larger ones in a temporary file (TMPDIR). It
    changes no bit of the result."""
    bank: int = Field(default=0, ge=0, le=10_000_000)
    """Training captions to score as a querybank, for querybank normalisation; 0: none."""


class FusionConfig(Section):
    """Streams, levels, model, training and evaluation of a fusion run."""

    streams: dict[str, str] = Field(default_factory=lambda: dict(DEFAULT_STREAMS))
    """Stream of the store that each role reads: the name of an extractor or of an import, such as
    "clip", or "clip@1234abcd" where the store has several of that name."""
    levels: dict[str, Level] = Field(default_factory=lambda: DEFAULT_LEVELS | OPTIONAL_LEVELS)
    """The levels by name; a new section adds one, `enabled = false` removes one."""
    project: tuple[str, ...] = ()
    """Roles whose features lie in a space of their own and are projected into the joint space by
    learned weights: of frames, captions and the streams of levels with fusion "none". Never
    guessed, since equal width does not mean one space."""
    model: ModelConfig = ModelConfig()
    """Sizes of the trained parts."""
    scoring: Literal["mean", "wti"] = "mean"
    """mean: cosine of sentence and pooled rows; wti: weighted token-wise interaction of words and
    rows (Wang et al., DRL, 2022)."""
    completion: CompletionConfig = CompletionConfig()
    """What early fusion reads of a video that lacks the modality."""
    late: LateConfig = LateConfig()
    """How the levels' scores become one score."""
    strategy: Literal["end_to_end", "ensemble", "zero_shot"] = "end_to_end"
    """end_to_end: all levels in one model; ensemble: each level trained on its own, then late
    fusion, as in the paper; zero_shot: a weighted sum of cosines (`m2hf eval --zero-shot`)."""
    balance: BalanceConfig = BalanceConfig()
    """Balance loss of end-to-end training."""
    train: TrainConfig = TrainConfig()
    """Training: AdamW, linear warm-up, cosine decay, early stopping on validation."""
    eval: EvalConfig = EvalConfig()
    """Scoring of a split."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the encoding by autocast; scores and losses are always fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of training and scoring; auto: CUDA, then MPS, then the CPU."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of torch in each process."""

    @field_validator("streams", mode="before")
    @classmethod
    def _over_default_streams(cls, given: Any) -> Any:
        return {**DEFAULT_STREAMS, **given} if isinstance(given, Mapping) else given

    @field_validator("levels", mode="before")
    @classmethod
    def _over_default_levels(cls, given: Any) -> Any:
        return over_default_levels(given) if isinstance(given, Mapping) else given

    @field_validator("project")
    @classmethod
    def _sound_project(cls, given: tuple[str, ...], before: ValidationInfo) -> tuple[str, ...]:
        if "levels" in before.data:
            check_project(given, tuple(spaces(before.data["levels"])))
        return tuple(sorted(set(given)))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        check_levels(self.levels, self.streams)
        if not self.trained_levels:
            which = "every level but those of words" if self.word_levels else "every level"
            raise ValueError(f"{which} is disabled; enable at least one")
        if self.model.joint and all(map(self.shared_by, self.spaces.values())):
            raise ValueError(
                f"model.joint = {self.model.joint}, but {', '.join(self.shared_roles)} give the "
                "joint space its width; leave model.joint out, or project them too"
            )
        return self

    @property
    def active_levels(self) -> dict[str, Level]:
        """The enabled levels, in the order of every array of levels: trained ones, then words."""
        return {**self.trained_levels, **self.word_levels}

    @property
    def trained_levels(self) -> dict[str, Level]:
        """The enabled levels that compare vectors, by networks."""
        return {n: v for n, v in self.levels.items() if v.enabled and v.fusion != "words"}

    @property
    def word_levels(self) -> dict[str, Level]:
        """The enabled levels that compare words, in closed form."""
        return {n: v for n, v in self.levels.items() if v.enabled and v.fusion == "words"}

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that a run reads: frames, captions, and what the enabled levels name."""
        streams = (level.stream for level in self.active_levels.values())
        return tuple(dict.fromkeys([FRAMES, CAPTIONS, *streams, *self.query_roles]))

    @property
    def query_roles(self) -> tuple[str, ...]:
        """Roles whose items are captions: `captions`, and other queries of the enabled levels."""
        queries = (level.query for level in self.active_levels.values())
        return tuple(dict.fromkeys([CAPTIONS, *queries]))

    @property
    def spaces(self) -> dict[str, str]:
        """By joint role the query role whose joint space it is in, or projected to."""
        return spaces(self.levels)

    @property
    def joint_roles(self) -> tuple[str, ...]:
        """Roles whose rows are compared with a query's: in its joint space, or projected to it."""
        return tuple(self.spaces)

    @property
    def shared_roles(self) -> tuple[str, ...]:
        """Joint roles that are not projected: their features already lie in the joint space."""
        return tuple(role for role in self.joint_roles if role not in self.project)

    def shared_by(self, query: str) -> tuple[str, ...]:
        """The shared roles of the space of a query role."""
        return tuple(role for role in self.shared_roles if self.spaces[role] == query)

    def anchor(self, query: str) -> str:
        """The role that a query role is compared with first: the frames, or in a space without
        them the first stream that is not projected, else the first."""
        if query == CAPTIONS:
            return FRAMES
        streams = [role for role, own in self.spaces.items() if own == query != role]
        return next((role for role in streams if role not in self.project), streams[0])

    def comparable_by(self, query: str) -> bool:
        """Whether a query role and its anchor share a space."""
        return not {self.anchor(query), query} & set(self.project)

    @property
    def comparable(self) -> bool:
        """Whether frames and captions share a space."""
        return self.comparable_by(CAPTIONS)

    def only(self, *names: str) -> Self:
        """A copy for one network, in which no other levels than `names` are enabled."""
        levels = {n: v.model_copy(update={"enabled": n in names}) for n, v in self.levels.items()}
        return self.model_copy(update={"levels": levels, "strategy": "end_to_end"})
