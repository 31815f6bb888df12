"""The absence of a clip's video or sound, with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """A clip has no video, or no sound: its features are EMPTY for this reason."""

    reason: str
