"""Late fusion of given matrices, by a late rule with parameters of recorded origin.

The syntax is RULE or RULE:NAME,... or RULE:NAME=WEIGHT,... such as `sum:video=0.73,titles=0.27`.
`sum` weights scores and `affine` standard scores; the other rules take no weights there. The
parameters of a rule (weights, centres, deviations, biases and more) are part of --fuse, come from
a weights file, or are tuned on validation matrices. Tuning on the ranked matrices themselves must
be requested, and is flagged.

Weights file, TOML or JSON: for each matrix a number, or a table of the fields of `Term`.

L matrices, Q queries, V videos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from m2hf.array_types import FloatArray
from m2hf.config import Section, parse
from m2hf.errors import ConfigError, UsageError
from m2hf.fuse.scores.late_rules import LATE_RULES, START_OFFSET, TRAINED, Calibration
from m2hf.fuse.scores.metrics import ScoreMatrix
from m2hf.plain_data import json_object, read_text, shown, toml

WEIGHTED = ("sum", "affine")  # rules that take weights
STANDARDISED = (*TRAINED, "z_sum", "z_mean", "max")  # rules that read centre and deviation

# Fields of `Term` that only some trained rules read.
_OWN = {
    "mention": ("offset",),
    "mention_mixture": ("offset", "mixture_weight", "mixture_offset"),
}

# Where the parameters of a blend come from; "none": the rule has none, or all weights are equal.
Origin = Literal["none", "given", "validation", "test"]


class Term(Section):
    """Parameters of a rule for one matrix: weight (alpha of the trained rules), bias, offset (of
    `mention` and `mention_mixture`), weight and offset within the mixture of the latter, centre,
    deviation."""

    weight: float = Field(default=1.0, ge=0)
    bias: float = 0.0
    offset: float = START_OFFSET
    mixture_weight: float = Field(default=1.0, ge=0)
    mixture_offset: float = 0.0
    centre: float = 0.0
    deviation: float = Field(default=1.0, gt=0)


@dataclass(frozen=True)
class Blend:
    """A late rule over named matrices. terms: its parameters by matrix, in order; origin: where
    they come from."""

    rule: str
    terms: Mapping[str, Term]
    origin: Origin = "none"

    @classmethod
    def parse(cls, text: str, matrices: Sequence[str]) -> Self:
        """Parse a value of `--fuse`; `matrices` are the names that it may use."""
        rule, _, listed = text.partition(":")
        if rule not in LATE_RULES:
            raise UsageError(f"--fuse {text}: no rule {rule!r}; rules are {', '.join(LATE_RULES)}")
        named = dict.fromkeys(matrices, "") if not listed else _pairs(text, listed)
        for name in named:
            if name not in matrices:
                listed = ", ".join(matrices)
                raise UsageError(f"--fuse {text}: no matrix {name!r}; given are {listed}")
        weighted = [name for name, weight in named.items() if weight]
        if weighted and rule not in WEIGHTED:
            raise UsageError(f"--fuse {text}: {rule} takes no weights; {' and '.join(WEIGHTED)} do")
        if weighted and len(weighted) < len(named):
            raise UsageError(f"--fuse {text}: give a weight for every matrix, or for none")
        terms = {name: Term(weight=_number(text, w) if w else 1.0) for name, w in named.items()}
        return cls(rule, terms, "given" if weighted else "none")

    def with_terms(self, terms: Mapping[str, Term], origin: Origin) -> Self:
        """The same rule with these parameters."""
        return replace(self, terms=dict(terms), origin=origin)

    @property
    def lacks_parameters(self) -> bool:
        """Whether the rule reads parameters and has none yet."""
        return self.origin == "none" and self.rule in {*WEIGHTED, *STANDARDISED}

    @property
    def name(self) -> str:
        """The name of its table row, such as `sum(video=0.73,titles=0.27)`."""
        weighted = self.rule == "sum" and self.origin != "none"
        parts = [f"{n}={t.weight:g}" if weighted else n for n, t in self.terms.items()]
        return f"{self.rule}({','.join(parts)})"

    def apply(self, scores: Mapping[str, ScoreMatrix]) -> "BlendedScores":
        """The fused matrix, computed when its rows are read."""
        return BlendedScores(self, tuple(scores[name] for name in self.terms))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Fields of `Term` that a rule of `STANDARDISED` reads."""
        trained = ("weight", "bias") if self.rule in TRAINED else ()
        return (*trained, *_OWN.get(self.rule, ()), "centre", "deviation")

    @property
    def calibration(self) -> Calibration:
        """The parameters in the form that late rules read."""
        terms = self.terms.values()
        parameters = [
            (t.centre, t.deviation, t.weight, t.bias, t.offset, t.mixture_weight, t.mixture_offset)
            for t in terms
        ]
        return Calibration(*np.array(parameters).T)


@dataclass(frozen=True, eq=False)
class BlendedScores:
    """The fused matrix (Q, V), float64; every matrix has scores for every video."""

    blend: Blend
    scores: tuple[ScoreMatrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, V)."""
        queries, videos = self.scores[0].shape
        return queries, videos

    def __getitem__(self, rows: slice, /) -> FloatArray:
        parts = [scores_QV[rows].astype(np.float64) for scores_QV in self.scores]
        if self.blend.rule == "sum":
            weights = [term.weight for term in self.blend.terms.values()]
            parts = [w * part_QV for w, part_QV in zip(weights, parts, strict=True)]
        scores_LQV = np.stack(parts)
        valid_LV = np.ones(scores_LQV.shape[::2], dtype=np.bool_)
        return LATE_RULES[self.blend.rule](scores_LQV, valid_LV, self.blend.calibration)


def read_terms(path: Path) -> dict[str, Term]:
    """Read a weights file; raises UsageError or ConfigError for a malformed one."""
    where = f"--weights {path}"
    read = toml if path.suffix == ".toml" else json_object
    data = read(read_text(path, where), where)
    if not data:
        raise UsageError(f"{where}: expected a table with a number or a table for each matrix")
    return {name: parse(Term, _table(where, name, entry), where) for name, entry in data.items()}


def _table(where: str, name: str, entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, Mapping):
        return entry
    if isinstance(entry, (int, float)) and not isinstance(entry, bool):
        return {"weight": entry}
    raise ConfigError(
        f"{where}: {shown(name)[1:-1]} = {shown(entry)}; expected a number or a table"
    )


def _pairs(text: str, listed: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for entry in listed.split(","):
        name, _, weight = entry.partition("=")
        if not name or name in named:
            raise UsageError(f"--fuse {text}: expected RULE:NAME=WEIGHT,... with each name once")
        named[name] = weight
    return named


def _number(text: str, weight: str) -> float:
    try:
        number = float(weight)
    except ValueError as error:
        raise UsageError(f"--fuse {text}: {weight!r} is not a number") from error
    if not 0 <= number < np.inf:
        raise UsageError(f"--fuse {text}: a weight is 0 or more, got {weight}")
    return number
