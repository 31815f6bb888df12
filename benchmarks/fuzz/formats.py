"""Every format that m2hf reads: its sound files, the damage that is done, and what reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.fuzz import containers, damage
from benchmarks.levels.corpus import NAME

# Arguments with {} for the folder of the sound files, and {out} for a new folder.
_MANIFEST = "--manifest {}/manifest"
_STORE = f"{_MANIFEST} --store {{}}/store"
_JOB = f"{_STORE} --media {{}}/media --config {{}}/recipe.toml --only logmel"
_IMPORT = f"import {_MANIFEST} --store {{out}}"
_PLAN = (f"plan {_JOB}",)
_MATRICES = "matrices a={}/a.npy b={}/b.npy"


@dataclass(frozen=True)
class Format:
    """files: a glob pattern of the sound files, one of which is damaged by `damage`; commands: that
    read them."""

    name: str
    files: str
    damage: damage.Damage
    commands: Sequence[str]


def _table(suffix: str) -> Format:
    commands = (
        f"trace {{}}/table.{suffix} visual --run {{}}/run",
        f"trace {{}}/table.{suffix} late_fusion --run {{}}/run --store {{}}/store",
    )
    harm = {"json": damage.of_json, "csv": damage.of_csv}.get(suffix, _of_document)
    return Format(f"table .{suffix}", f"table.{suffix}", harm, commands)


def _queries(name: str, harm: damage.Damage, *more: str) -> Format:
    return Format(f"queries {name}", name, harm, (" ".join((_MATRICES, *more)),))


def _of_document(random: Random, data: bytes) -> bytes:
    """Damage to the JSON in the comment of a table, or to the table's text."""
    lines = data.splitlines(keepends=True)
    inside = [at for at, line in enumerate(lines) if b"m2hf" in line and b"{" in line]
    if not inside or random.random() < 0.3:
        return damage.of_lines(damage.of_bytes)(random, data)
    line = lines[inside[0]]
    start, end = line.index(b"{"), line.rindex(b"}") + 1
    lines[inside[0]] = line[:start] + damage.of_json(random, line[start:end]) + line[end:]
    return b"".join(lines)


FORMATS: tuple[Format, ...] = (
    Format(
        "manifest rows",
        "manifest/rows.jsonl",
        damage.of_lines(damage.of_json),
        ("manifest check {}/manifest --media {}/media", *_PLAN),
    ),
    Format("card.toml", "manifest/card.toml", damage.of_toml, ("manifest check {}/manifest",)),
    Format(
        "recipe", "recipe.toml", damage.of_toml, ("config --config {}/recipe.toml --json", *_PLAN)
    ),
    Format(
        "ledger",
        f"store/{NAME}/ledger/sound.jsonl",
        damage.of_lines(damage.of_json),
        (f"status {_JOB} --json", f"export {_STORE} --stream clip --format npz --out {{out}}"),
    ),
    Format("store.json", f"store/{NAME}/store.json", damage.of_json,
           (*_PLAN, f"import {_STORE} --stream a={{}}/npy")),
    Format(
        "shard",
        f"store/{NAME}/*/*.h5",
        containers.of_hdf5,
        (
            f"verify {_STORE} --only clip,caption,audio,motion,text",
            f"export {_STORE} --stream clip --format npz --out {{out}}",
            f"eval {_STORE} --run {{}}/run",
        ),
    ),
    Format(
        "similarity file",
        "run/similarity.h5",
        containers.of_hdf5,
        ("tables {}/run/similarity.h5", f"report {_STORE} --run {{}}/run"),
    ),
    Format(
        "checkpoint",
        "run/checkpoint.safetensors",
        containers.of_safetensors,
        (f"eval {_STORE} --run {{}}/run",),
    ),
    Format(
        "unfinished run",
        "unfinished/last.safetensors",
        containers.of_safetensors,
        (
            f"train {_STORE} --run {{}}/unfinished --config {{}}/recipe.toml "
            "--set fuse.train.epochs=2",
        ),
    ),
    Format("training log", "run/metrics.jsonl", damage.of_lines(damage.of_json),
           (f"report {_STORE} --run {{}}/run",)),
    Format("query kinds", "kinds.csv", damage.of_csv,
           ("tables {}/run/similarity.h5 --kinds {}/kinds.csv",)),
    *map(_table, ("md", "json", "csv", "html")),
    Format("import .npy", "npy/*.npy", containers.of_npy, (f"{_IMPORT} --stream a={{}}/npy",)),
    Format("import .npz", "npz/*.npz", containers.of_npz, (f"{_IMPORT} --stream a={{}}/npz",)),
    Format("import .h5", "videos.h5", containers.of_hdf5,
           (f"{_IMPORT} --stream a={{}}/videos.h5",)),
    Format("captions .npz", "captions.npz", containers.of_npz,
           (f"{_IMPORT} --captions {{}}/captions.npz",)),
    Format("captions .h5", "captions.h5", containers.of_hdf5,
           (f"{_IMPORT} --captions {{}}/captions.h5",)),
    Format("captions .csv", "captions.csv", damage.of_csv,
           ("manifest from-captions {}/captions.csv --out {out}",)),
    Format("matrix", "a.npy", containers.of_npy, (_MATRICES,)),
    _queries("queries.txt", damage.of_lines(damage.of_bytes), "--queries {}/queries.txt"),
    _queries("queries.json", damage.of_json, "--queries {}/queries.json --video-ids {}/ids.json"),
    _queries("queries.csv", damage.of_csv, "--queries {}/queries.csv"),
    _queries("ids.json", damage.of_json, "--queries {}/queries.json --video-ids {}/ids.json"),
    _queries("terms.json", damage.of_json, "--fuse affine --weights {}/terms.json"),
    _queries("terms.toml", damage.of_toml, "--fuse affine --weights {}/terms.toml"),
    Format("weights index", "weights/index.json", damage.of_json,
           ("weights check --config {}/recipe.toml",)),
)  # fmt: skip
