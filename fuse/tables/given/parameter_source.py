"""The source of late-rule parameters that are not part of --fuse: a weights file, validation
matrices, or the test matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from m2hf.errors import UsageError
from m2hf.fuse.tables.given.blend import STANDARDISED, Blend, Term, read_terms
from m2hf.fuse.tables.given.ground_truth import GroundTruthFiles
from m2hf.fuse.tables.given.matrices import GivenMatrices
from m2hf.fuse.tables.given.tuning import tune

WEIGHTS, VALIDATION, TEST = "--weights", "--val-matrix", "--tune-on-test"


@dataclass(frozen=True, eq=False)
class ParameterSource:
    """option: `WEIGHTS`, with terms by matrix; `VALIDATION`, with validation matrices; `TEST`; ""
    for no source."""

    option: str = ""
    terms: Mapping[str, Term] = field(default_factory=dict)
    validation: GivenMatrices | None = None

    @classmethod
    def open(
        cls,
        weights: Path | None,
        validation: Mapping[str, Path],
        queries: GroundTruthFiles,
        on_test: bool,
    ) -> Self:
        """Read the one source that is given. queries: ground truth of the validation matrices.

        Raises UsageError for more than one source, and for files that can't be read.
        """
        if sum((weights is not None, bool(validation), on_test)) > 1:
            raise UsageError(f"{WEIGHTS}, {VALIDATION} and {TEST} exclude each other; give one")
        if queries.queries is not None and not validation:
            raise UsageError(f"{queries.option} belongs to {VALIDATION}, which is not given")
        if weights is not None:
            return cls(WEIGHTS, terms=read_terms(weights))
        if validation:
            return cls(VALIDATION, validation=GivenMatrices.open(validation, queries, VALIDATION))
        return cls(TEST) if on_test else cls()

    def blends(self, rules: Sequence[str], test: GivenMatrices) -> list[Blend]:
        """The blends that values of --fuse describe, with all their parameters.

        Raises UsageError for a malformed rule, for parameters that are in no source, and for a
        source that no rule needs.
        """
        if self.option and not rules:
            raise UsageError(f"{self.option} sets parameters of --fuse RULE, which is not given")
        return [self.resolve(Blend.parse(text, list(test.scores)), test) for text in rules]

    def resolve(self, blend: Blend, test: GivenMatrices) -> Blend:
        """The blend with all parameters of its rule; raises UsageError where there are none."""
        if not blend.lacks_parameters:
            return blend
        if self.option == WEIGHTS:
            return blend.with_terms(self._terms_of(blend), "given")
        if self.validation is not None:
            self._check(blend, self.validation, test)
            found = self.validation
            return tune(blend, found.scores, found.video_of_query, "validation")
        if self.option == TEST:
            return tune(blend, test.scores, test.video_of_query, "test")
        if blend.rule in STANDARDISED:
            raise UsageError(
                f"--fuse {blend.rule} needs a centre and a deviation of each matrix; give them "
                f"with {WEIGHTS} FILE, compute them on {VALIDATION} NAME=FILE, or accept {TEST}"
            )
        return blend

    def _terms_of(self, blend: Blend) -> dict[str, Term]:
        for name in blend.terms:
            if name not in self.terms:
                raise UsageError(f"{WEIGHTS}: no entry for matrix {name!r}, which --fuse uses")
        return {name: self.terms[name] for name in blend.terms}

    def _check(self, blend: Blend, validation: GivenMatrices, test: GivenMatrices) -> None:
        for name in blend.terms:
            if name not in validation.scores:
                raise UsageError(f"--fuse {blend.rule}: no {VALIDATION} {name}=FILE to tune on")
            if validation.sha256[f"matrix {name}"] == test.sha256[f"matrix {name}"]:
                raise UsageError(
                    f"{VALIDATION} {name}: the same file content as matrix {name} that is "
                    f"ranked; to tune on test, use {TEST}, and the rows will be flagged"
                )
