"""The rows of the ablation tables: each has a name, config overrides, and the scores it reads.

A row sets config keys alone, spelt as for `m2hf train --set`, so that every row can be repeated on
the command line. Rows with the same overrides share one training.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from m2hf.config import parse, read_recipe
from m2hf.fuse.config import FusionConfig, LateConfig
from m2hf.fuse.level_table import DEFAULT_LEVELS, LATE_FUSION
from m2hf.fuse.scores.late_rules import LATE_RULES

SMALL_SET = "a small set"
ALONE = "each level alone"
LOADING = "loading"
BEST_ALONE = "best alone"  # the row of that group with the highest mean
IMBALANCED, BALANCED, SMALL = "imbalanced", "balanced", "small"

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

# A small model for small features: one training takes a few seconds of one core.
BASE = ("fuse.device=cpu", "fuse.threads=1", "fuse.model.width=64", "fuse.model.heads=4")


@dataclass(frozen=True)
class Ablation:
    """One line of the table.

    group: the part of the table; set: config overrides of the training; score: overrides of the
    scoring alone, which need no training of their own; read: the matrices of the similarity file
    whose mean is ranked, nearly always one; missing: shares of videos without a factor that
    differ from the setting's; against: the row whose R@1 is subtracted, seed by seed.
    """

    name: str
    group: str
    set: tuple[str, ...] = ()
    score: tuple[str, ...] = ()
    read: tuple[str, ...] = (LATE_FUSION,)
    missing: Mapping[str, float] = field(default_factory=dict)
    settings: tuple[str, ...] = (IMBALANCED, BALANCED)
    against: str = BEST_ALONE

    @property
    def reading(self) -> "Reading":
        """How this row reads its training."""
        return Reading(self.score, self.read)


@dataclass(frozen=True)
class Reading:
    """How a training is scored, and which matrices are read; see `Ablation`."""

    score: tuple[str, ...] = ()
    read: tuple[str, ...] = (LATE_FUSION,)

    @property
    def closed(self) -> bool:
        """Whether it reads a closed-form baseline, which is not trained."""
        return self.read[0] == "zero_shot" or self.read[0].startswith("ridge_")


def alone(*levels: str) -> tuple[str, ...]:
    """The overrides that disable every other level."""
    return tuple(
        f"fuse.levels.{name}.enabled=false" for name in DEFAULT_LEVELS if name not in levels
    )


def config_of(row_set: tuple[str, ...], seed: int, more: tuple[str, ...] = ()) -> FusionConfig:
    """The config of one training; raises ConfigError for an unknown key."""
    overrides = [*BASE, f"fuse.train.seed={seed}", *row_set, *more]
    return parse(FusionConfig, read_recipe(None, overrides)["fuse"])


def scoring_of(score: tuple[str, ...]) -> FusionConfig | None:
    """The overrides of scoring as a config; None if there are none."""
    return parse(FusionConfig, read_recipe(None, score)["fuse"]) if score else None


def form(name: str) -> tuple[str, ...]:
    """The overrides that fuse audio and motion early in this form; none for the default."""
    levels = [level for level, row in DEFAULT_LEVELS.items() if row.fusion not in ("none", name)]
    return tuple(f"fuse.levels.{level}.fusion={name}" for level in levels)


FORMS = ("aligned", "add", "append", "concat")
HYBRID = "late_fusion"  # the default recipe, end to end
ENSEMBLE = ("fuse.strategy=ensemble",)
TWO = ("visual", "motion_visual")
FUSED_ALONE = "fuse.train.level_loss=0"
SHARED_CAPTIONS = ("fuse.model.own_captions=false",)
BALANCE_FORMS = ("mixture", "contribution", "dwa", "uncertainty", "gradient")
CLOSED = ("zero_shot", "ridge_visual", "ridge_motion_visual", "ridge_concatenated")
PAIR = alone("visual", "audio_visual")
APART = (*PAIR, "fuse.levels.audio_visual.fusion=none")

ROWS: tuple[Ablation, ...] = (
    *(Ablation(level, ALONE, alone(level)) for level in DEFAULT_LEVELS),
    # A few hundred clips, two streams, one caption each: the size of a first trial.
    *(Ablation(level, SMALL_SET, alone(level), settings=(SMALL,)) for level in TWO),
    Ablation(HYBRID, SMALL_SET, alone(*TWO), settings=(SMALL,), against="ridge_concatenated"),
    *(Ablation(name, SMALL_SET, alone(*TWO), read=(name,), settings=(SMALL,), against=HYBRID)
      for name in CLOSED),
    *(Ablation(name, "baselines", read=(name,), against=HYBRID) for name in CLOSED),
    Ablation(HYBRID, "end to end"),
    Ablation("ensemble", "end to end", ENSEMBLE, against=HYBRID),
    *(Ablation(f"balance {name}", "balance loss", (f"fuse.balance.form={name}",), against=HYBRID)
      for name in BALANCE_FORMS),
    Ablation("shared captions", "own captions", SHARED_CAPTIONS, against=HYBRID),
    *(Ablation(f"lambda {weight}", "level loss", (f"fuse.train.level_loss={weight}",),
          against=HYBRID)
      for weight in ("1", "0.1", "0")),
    Ablation("level dropout 0.5", "level dropout", ("fuse.train.level_dropout=0.5",),
        against=HYBRID),
    # With the loss of the fusion alone, levels are least balanced.
    *(Ablation(f"lambda 0, balance {name}", "level loss",
          (FUSED_ALONE, f"fuse.balance.form={name}"), against="lambda 0")
      for name in ("contribution", "gradient")),
    # One training each: a late rule changes the scoring alone.
    *(Ablation(f"{name}, {rule}", "late fusion", how, (f"fuse.late.rule={rule}",), against=name)
      for name, how in ((HYBRID, ()), ("ensemble", ENSEMBLE))
      for rule in LATE_RULES if rule != LateConfig().rule),
    # Frames and one stream: early fusion against simpler combinations.
    *(
        Ablation(f"frames and {factor}, {name}", "early fusion", (*alone(level), *form(name)),
            against=f"frames and {factor}, concat")
        for factor, level in (("sound", "audio_visual"), ("movement", "motion_visual"))
        for name in FORMS
    ),
    Ablation("frames and sound, scores averaged", "early fusion", APART,
        read=("visual", "audio_visual"), against="frames and sound, concat"),
    Ablation("frames and sound, scores calibrated", "early fusion", APART,
        against="frames and sound, concat"),
    *(Ablation(f"hybrid, {name}", "early fusion", form(name), against=HYBRID)
      for name in FORMS if form(name)),
    Ablation("completion fallback", "completion", against=HYBRID),
    *(Ablation(f"completion {mode}", "completion", (f"fuse.completion.mode={mode}",),
          against=HYBRID)
      for mode in ("token", "predict")),
    Ablation("wti", "scoring", ("fuse.scoring=wti",), against=HYBRID),
    # Missing modalities: the fusion against the best level at the same share.
    *(
        Ablation(f"{share:.0%} without {factor}", f"missing {factor}",
            missing={factor: share}, settings=(IMBALANCED,), against="motion_visual")
        for factor in ("words", "sound")
        for share in SHARES
    ),
    *(
        Ablation(f"frames and words, {share:.0%} without words", "missing words, two levels",
            alone("visual", "text"), missing={"words": share}, settings=(IMBALANCED,),
            against="visual")
        for share in SHARES
    ),
    *(
        Ablation(f"audio_visual, {share:.0%} without sound", "missing sound", alone("audio_visual"),
            missing={"sound": share}, settings=(IMBALANCED,), against="motion_visual")
        for share in SHARES
    ),
)  # fmt: skip


def select_rows(groups: str) -> tuple[Ablation, ...]:
    """The rows of comma-separated `groups`, all for ""; raises ValueError for an unknown one.

    "loading" is a group without rows.
    """
    known = [*dict.fromkeys(row.group for row in ROWS), LOADING]
    wanted = [group.strip() for group in groups.split(",") if group.strip()]
    for group in wanted:
        if group not in known:
            raise ValueError(f"--only {group}: no such group; there are {', '.join(known)}")
    return tuple(row for row in ROWS if not wanted or row.group in wanted)
