"""The errors that m2hf raises on purpose, and the exit code of each.

M2hfError                 one clear line: what, where, what was expected, what to do
├── UsageError            exit 2: a path, option or combination that can't work
│   ├── ConfigError       exit 2: an unknown key or a bad value in a recipe or --set
│   ├── ManifestError     exit 2: a manifest or captions file that contradicts itself
│   ├── MismatchError     exit 2: two valid artefacts that don't belong together
│   └── SchemaError       exit 2: a file of another kind or schema version
├── ShardError            exit 2: a damaged shard
├── ResourceError         exit 1: what every clip needs (disk, memory, open files, media share,
│                         weights) is lacking; stops a run, and marks no clip
└── ClipError             never ends a run: the outcome of one clip, written to the ledger
    ├── MediaError        permanent: the file is broken or over a limit
    ├── ExtractorError    the model or its code failed on this clip; tried once more
    └── UpstreamError     what this extractor reads was not extracted for this clip
"""

from typing import ClassVar

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_USAGE = 2
EXIT_FAILURES = 3
EXIT_INTERRUPTED = 130


def first_line(error: Exception) -> str:
    """The first line of an error's message, to quote in an error message of one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class M2hfError(Exception):
    """Base of all errors raised on purpose; its message is one line that says what to do."""

    exit_code: ClassVar[int] = EXIT_CRASH


class UsageError(M2hfError):
    """A path, an option or a combination of them that can't work."""

    exit_code = EXIT_USAGE


class ConfigError(UsageError):
    """An unknown key or a bad value in a recipe or in --set."""


class ManifestError(UsageError):
    """A manifest or captions file that contradicts itself."""


class MismatchError(UsageError):
    """Two valid artefacts that don't belong together, such as a checkpoint and other features."""


class SchemaError(UsageError):
    """A file of another kind or schema version, which m2hf neither reads nor overwrites."""


class ShardError(M2hfError):
    """A damaged shard; extraction writes it again."""

    exit_code = EXIT_USAGE


class ResourceError(M2hfError):
    """Disk, memory, a share or weights: no further clip could succeed, so the run stops."""


class ClipError(M2hfError):
    """The outcome of one clip; it is written to the ledger and the run continues."""


class MediaError(ClipError):
    """The file is broken or over a limit; trying again gives the same result."""


class ExtractorError(ClipError):
    """The model or its code failed on this clip; tried once more."""


class UpstreamError(ClipError):
    """What this extractor reads was not extracted for this clip."""
