"""`m2hf config`: every setting of a recipe, its value and its documentation."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m2hf.cli import options
from m2hf.errors import UsageError

if TYPE_CHECKING:
    from m2hf.settings import Setting, SettingGroup

_WIDTH = 100  # at most: longer lines of text are hard to read
_INDENT = " " * 6
_PAGE = """\
# Settings

Every key of a recipe, with its default. `m2hf config` prints the same in a terminal, and with
`--config RECIPE` and `--set KEY=VALUE` the values that a run would use. Generated: run
`m2hf config --markdown > docs/settings.md` after a change.

A section `[extract.NAME]` with the key `extractor` is an instance: that extractor once more, with
settings of its own. NAME (lower-case letters, digits and _) is its stream, and what `--only`,
`extract.extractors` and `fuse.streams` call it. An instance of `text` reads the streams `ocr` and
`asr`, as `text` does.

```
[extract]
extractors = ["clip", "caption", "caption_sentence", "ocr", "asr", "text"]

[extract.caption_sentence]
extractor = "caption"
encoder = {kind = "sentence"}
```
"""


def config(
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/settings.md.")
    ] = False,
) -> None:
    """Print every setting: key, value, default, type, range and what it means.

    Values are those of the recipe that --config and --set give; without them, the defaults.
    """
    from m2hf.cli.recipe import Recipe, load_recipe
    from m2hf.keys import canonical_json
    from m2hf.settings import setting_groups

    if json and markdown:
        raise UsageError("--json and --markdown exclude each other; give one")
    recipe, _ = load_recipe(config, set_)
    groups = list(setting_groups(Recipe(), recipe))
    if json:
        typer.echo(canonical_json([asdict(one) for group in groups for one in group.settings]))
    elif markdown:
        typer.echo("\n".join(_page(groups)).rstrip())
    else:
        _print(groups)


def _print(groups: Sequence["SettingGroup"]) -> None:
    from textwrap import wrap

    from rich.console import Console
    from rich.text import Text

    from m2hf.printable import printable

    console = Console(highlight=False)
    width = min(console.width, _WIDTH)
    for group, documented in _documented(groups):
        # Text and not a string: a recipe's own names and values may look like markup.
        console.print(Text(f"\n[{printable(group.name)}]", style="bold"), soft_wrap=True)
        for text in wrap(group.doc, width):
            console.print(Text(text))
        for setting, doc in documented:
            line = Text(f"  {printable(setting.key)} = ")
            line.append(_shown(setting.value), "bold cyan")
            if setting.value != setting.default:
                line.append(f"  (default: {_shown(setting.default)})", "yellow")
            line.append(f"  {_kind(setting)}", "dim")
            console.print(line, soft_wrap=True)
            for text in wrap(doc, width - len(_INDENT)):
                console.print(Text(_INDENT + text))


def _page(groups: Sequence["SettingGroup"]) -> Iterator[str]:
    yield _PAGE
    for group, documented in _documented(groups):
        yield f"## {_cell(group.name)}\n"
        if group.doc:
            yield f"{_cell(group.doc)}\n"
        if documented:
            yield "| key | value | type | meaning |\n|---|---|---|---|"
        for setting, doc in documented:
            value = f"`{_cell(_shown(setting.value))}`"
            if setting.value != setting.default:
                value += f" (default: `{_cell(_shown(setting.default))}`)"
            kind = _cell(_kind(setting))
            yield f"| `{_cell(setting.key)}` | {value} | {kind} | {_cell(doc)} |"
        if documented:
            yield ""


def _documented(
    groups: Sequence["SettingGroup"],
) -> Iterator[tuple["SettingGroup", list[tuple["Setting", str]]]]:
    """Each group, and its settings with the text to print: a text is printed once, and later
    keys of the same meaning refer to the first."""
    first: dict[str, str] = {}
    for group in groups:
        documented = []
        for setting in group.settings:
            known = first.setdefault(setting.doc, setting.key)
            doc = setting.doc if known == setting.key or not setting.doc else f"see {known}"
            documented.append((setting, "" if setting.doc == group.doc else doc))
        yield group, documented


def _kind(setting: "Setting") -> str:
    """Type, range and choices, such as "number >= 0, < 1"."""
    if setting.choices:
        return " | ".join(setting.choices)
    return f"{setting.type} {setting.range}".rstrip()


def _shown(value: Any) -> str:
    """A value as TOML writes it, fit for a terminal."""
    from json import dumps

    from m2hf.printable import printable

    return "unset" if value is None else printable(dumps(value, ensure_ascii=False))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
