"""What the user should know of input files: remarks, and problems collected into one error."""

from dataclasses import dataclass, field
from pathlib import Path

from m2hf.errors import ManifestError
from m2hf.manifest import shortened
from m2hf.printable import printable

_SHOWN = 10  # problems in a message; the others are counted
_LONG = 80  # characters of a quoted value


@dataclass(frozen=True)
class Remark:
    """An irregularity in the files that the user should know of, and the ids or names that it
    concerns."""

    text: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line, safe to print, with the first of the ids."""
        return printable(f"{self.text}: {shortened(self.ids)}" if self.ids else self.text)


@dataclass
class Problems:
    """Problems of the file at `path`, each with its line (from 1) and what to do about it."""

    path: Path
    found: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, line: int, what: str, remedy: str) -> None:
        """what: what is wrong in `line`, and what was expected; remedy: what to do."""
        self.found.append((line, what, remedy))

    def raise_if_any(self) -> None:
        """Raise `error` if there is a problem."""
        if self.found:
            raise self.error()

    def error(self) -> ManifestError:
        """One line with the first problems in line order, and their number."""
        ordered = sorted(self.found)
        if len(ordered) == 1:
            line, what, remedy = ordered[0]
            return ManifestError(printable(f"{self.path}, line {line}: {what}; {remedy}"))
        shown = ordered[:_SHOWN]
        lines = "; ".join(f"line {line}: {what}" for line, what, _ in shown)
        more = f"; and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
        remedies = "; ".join(dict.fromkeys(remedy for _, _, remedy in shown))
        return ManifestError(
            printable(f"{self.path}: {len(ordered)} problems: {lines}{more}. To do: {remedies}")
        )


def quoted(value: str) -> str:
    """`value` in quotes for a message, shortened."""
    return repr(value if len(value) <= _LONG else value[: _LONG - 3] + "...")
