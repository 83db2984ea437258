"""Settings, paths, ids, media and zips from a seed that try to run, move or replace something."""

import contextlib
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets_tests.fuzz.made import Made, mutated
from dedup_assets_tests.fuzz.promises import Job, keep_settings, read_damaged_settings, run_job

_TEMPLATES = [
    "{{{{ lipsum.__globals__['os'].system('{0}') }}}}",
    "{{{{ cycler.__init__.__globals__.os.popen('{0}').read() }}}}",
    "{{% for x in ().__class__.__base__.__subclasses__() %}}{{{{ x }}}}{{% endfor %}}{0}",
    "{{{{ env.HOME }}}}",
    "{{#{0}#}}",
    "{{% include '/etc/passwd' %}}",
    "{{%b",
    "{{{{ 1 }}}}",
    "!!python/object/apply:os.system ['{0}']",
    "__import__('os').system('{0}')",
    "$({0})",
    "`{0}`",
    "'; {0}; '",
    "pipe:{0}",
    "[b]{0}[/b]",
]
_ODD_TEXTS = [
    *("a b", "a%20b", "a%2520b", "a.b", "a%2Eb", "a/b", "a%2Fb", "..", "../../up", "/etc/hostname"),
    *("D::2", "a::b", "s3://b", "memory://x", "file:x", "~", "~root", "$HOME", "%", "a\\b", "C:x"),
    *("é" * 60, "e\u0301", "\u202etxt", "a\nb", "\r", "\x1b[2J", "\x00", "\udcff", " ", "-rf", "#"),
    *("{1..3}", "*", "[x]", "a?b", "&a *a", "<<: *a", "null", "True", "1e5", "0x1", "-", "__key__"),
    *(
        "__a__",
        "json",
        "y" * 200,
        "y" * 400,
        "x.zip",
        ".hidden",
        "CON",
        "\u0661\u0662",
        "a" * 300,
        "nearest",
    ),
]
_EXTENSIONS = [
    *("mp4", "mp4", "mp4", "MP4", "en.txt", "EN.txt", "json", "JSON", "source.json", "__key__"),
    *("__KEY__", "__url__", "mp4__", "_", "", ".mp4", "..", "m\np4", "\udcff", "x" * 60, "x" * 240),
    *("npy", "pyd", "k", "\u212a", "zip"),
]


def make_hostile(rng: random.Random, folder: Path) -> Made:
    """A case that tries `folder`/canary and what lies beside its output."""
    return rng.choice([_settings, _settings, _settings, _damaged, _damaged, _job])(rng, folder)


def _text(rng: random.Random, folder: Path) -> str:
    if rng.random() < 0.5:
        return rng.choice(_TEMPLATES).format(f"touch {folder}/canary")
    parts = rng.choices(_ODD_TEXTS, k=rng.choice([1, 1, 2]))
    return "".join(parts)


def _values(rng: random.Random, folder: Path) -> dict[str, Any]:
    """Settings of which some are hostile; the paths are absolute."""

    def text() -> str:
        return _text(rng, folder)

    column = rng.choice(["score", text(), text()])
    drawn: dict[str, Callable[[], Any]] = {
        "dataset": lambda: rng.choice(["films", "films", text()]),
        "clips_path": lambda: f"{folder}/{text()}",
        "id_field": text,
        "embedding_field": text,
        "metadata_fields": lambda: [text() for _ in range(rng.randrange(4))],
        "rank_by": lambda: [f"{column}:{rng.choice(['asc', 'desc', text()])}"],
        "schedule": text,
        "execution_timezone": text,
        "eps_thresholds": lambda: [rng.choice([0.01, "1e-05", text(), "\u0661", "0.010", 2])],
        "eps_to_extract": lambda: rng.choice(["0.1", 0, text()]),
        "input_s3_profile_name": text,
        "output_s3_profile_name": text,
        "input_s3_endpoint_url": lambda: rng.choice(["http://h:1", f"http://{text()}", text()]),
        "output_s3_endpoint_url": lambda: rng.choice(["https://h", f"https://h/{text()}"]),
        "layout": lambda: rng.choice(["nemo", "cosmos-curate", text()]),
        "tol": lambda: rng.choice([0, 1e-300, float("inf"), float("nan"), text()]),
        "random_state": lambda: rng.choice([0, 2**63 - 1, 2**63, -1, text()]),
        "memory_budget": lambda: rng.choice(["1GiB", "16MiB", "9" * 30, text()]),
        "embedding_dim": lambda: rng.choice([1, 10**30, True, text()]),
    }
    names = rng.sample(sorted(drawn), rng.choice([1, 2, 2, 4]))
    return {
        "input_embeddings_path": f"{folder}/{text()}" if rng.random() < 0.3 else f"{folder}/in",
        "output_path": f"{folder}/out",
        "n_clusters": rng.choice([1, 4]),
        **{name: drawn[name]() for name in names},
    }


def _settings(rng: random.Random, folder: Path) -> Made:
    values = _values(rng, folder)
    return Made("settings", folder, act=lambda: keep_settings(values, folder))


def _damaged(rng: random.Random, folder: Path) -> Made:
    document: Any = {"version": 1, "settings": _values(rng, folder)}
    text = json.dumps(document)
    form = rng.randrange(4)
    if form == 0:
        data = mutated(rng, text.encode())
    elif form == 1:
        odd = [_text(rng, folder), [_text(rng, folder)], None, 10**400, {"a": {}}, True, -1]
        field = rng.choice([*document["settings"], "input_storage_options", "unknown"])
        document["settings"][field] = rng.choice(odd)
        data = json.dumps(document).encode()
    elif form == 2:
        data = rng.choice(_ODD_DOCUMENTS)
    else:
        data = f"settings: {_text(rng, folder)}\nattributes: *a\n".encode(errors="replace")
    names = ["settings.json", "settings.json", "defs.yaml"]
    files = {rng.choice(names): data, rng.choice(names): data}
    return Made("settings, damaged", folder, act=lambda: read_damaged_settings(files, folder))


_BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
_ODD_DOCUMENTS = [
    *(b"", b"null", b"[]", b"{}", b'"x"', b"{" * 100_000, b"[" * 100_000, b"\xff\xfe", b"\0" * 99),
    *(b'{"version": 1}', b'{"version": 2, "settings": {}}', b'{"version": 1, "settings": []}'),
    *(b'{"version": 1, "settings": {"n_clusters": NaN}}', b'{"version": true, "settings": {}}'),
    *(b'{"version": 1, "version": 1}', b'{"version": ' + b"9" * 5_000 + b"}", b'{"a": "\\ud800"}'),
    *(_BOMB.encode(), b"!!python/object/apply:os.abort []", "{}".encode("utf-16")),
]


def _job(rng: random.Random, folder: Path) -> Made:
    """A run over hostile ids, media and paths."""
    texts = {_text(rng, folder) for _ in range(3)} | set(rng.sample(_ODD_TEXTS, 2))
    ids = rng.sample(sorted(texts), rng.randrange(1, len(texts)))
    inside = _folder(rng, folder, "in")
    made = f"{inside}/{rng.choice(['rows', _name(_text(rng, folder))])}.parquet"
    column = rng.choice(["label", "label", _text(rng, folder)])
    with contextlib.suppress(OSError, ValueError):
        Path(inside).mkdir(parents=True, exist_ok=True)
        _write_rows(rng, folder, Path(made), ids, column)
    clips = None if rng.random() < 0.1 else _folder(rng, folder, "clips")
    media = {} if clips is None else _write_media(rng, folder, clips, ids)
    if clips is not None and rng.random() < 0.3:
        clips = _zipped(clips)
    output = _folder(rng, folder, "out")
    if rng.random() < 0.1:  # in the way of what is read
        output = rng.choice([f"{inside}/out", made, inside, clips or made, f"{clips or inside}/x"])
    if rng.random() < 0.1:
        output = _link(rng, folder, rng.choice([inside, str(folder), clips or inside]))
    settings = {
        "input_embeddings_path": rng.choice([inside, inside, made]),
        "output_path": output,
        "clips_path": clips,
        "n_clusters": 1,
        "eps_to_extract": "0",
        "missing_media": "skip",
        "metadata_fields": [column] if rng.random() < 0.7 else [],
        "export": rng.choice(["shards", "shards", "media"]),
        "layout": rng.choice(["cosmos-curate", "nemo"]),
        "samples_per_shard": rng.choice([1, 100]),
        "missed_sample": 0,
        "device": "cpu",
    }
    job = Job(settings, ids, media, folder)
    return Made("run", folder, act=lambda: run_job(job))


def _folder(rng: random.Random, folder: Path, plain: str) -> str:
    return f"{folder}/{plain}" if rng.random() < 0.6 else f"{folder}/{_name(_text(rng, folder))}"


def _name(text: str) -> str:
    """The text as the name of one file, as far as it can be one."""
    return text.replace("/", "_").replace("\0", "_").strip(".")[:200] or "_"


def _link(rng: random.Random, folder: Path, target: str) -> str:
    path = folder / "link"
    with contextlib.suppress(OSError):
        path.symlink_to(target)
    return f"{path}{rng.choice(['', '/deeper'])}"


def _write_rows(rng: random.Random, folder: Path, path: Path, ids: list[str], column: str) -> None:
    vectors = [[1.0, float(rng.randrange(-99, 99)), float(place)] for place in range(len(ids))]
    kinds: list[Callable[[], pa.Array]] = [
        lambda: pa.array([_text(rng, folder).encode("utf-8", "replace").decode() for _ in ids]),
        lambda: pa.array([rng.randbytes(3) for _ in ids]),
        lambda: pa.array([rng.randrange(2**60) for _ in ids], pa.timestamp("ns")),
    ]
    table = {"id": ids, "embedding": pa.array(vectors, pa.list_(pa.float32()))}
    pq.write_table(pa.table({column: rng.choice(kinds)(), **table}), path)


def _write_media(rng: random.Random, folder: Path, clips: str, ids: list[str]) -> dict[str, bytes]:
    """Files in the clips folder, by relative name; those that could not be made are left out."""
    (folder / "outside").mkdir()
    (folder / "outside/secret.mp4").write_bytes(b"secret")
    media = {}
    for number in range(rng.choice([1, 4, 8])):
        stem = rng.choice([*ids, *(quote(id_, safe="", errors="replace") for id_ in ids), "__a"])
        name = f"{stem}.{rng.choice(_EXTENSIONS)}".replace("/", "_")
        name = f"{rng.choice(['', '', 'sub/'])}{name}"
        path = Path(clips, name)
        data = f"media {number}".encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if rng.random() < 0.05:
                rng.choice(_SPECIAL)(path, folder)
            elif not path.exists():
                path.write_bytes(data)
                media[name] = data
        except (OSError, ValueError):
            continue
    return media


_SPECIAL: list[Callable[[Path, Path], None]] = [
    lambda path, folder: os.mkfifo(path),
    lambda path, folder: path.symlink_to("/dev/zero"),
    lambda path, folder: path.symlink_to(folder / "outside/secret.mp4"),
    lambda path, folder: path.symlink_to(folder / "outside"),
    lambda path, folder: path.symlink_to(path.parent),
    lambda path, folder: path.symlink_to("nothing"),
]


def _zipped(clips: str) -> str:
    """The files of a folder in a zip, written as they are named."""
    path = f"{clips}.zip"
    with contextlib.suppress(OSError, ValueError), zipfile.ZipFile(path, "w") as archive:
        for file in sorted(Path(clips).rglob("*")):
            if file.is_file() and not file.is_symlink():
                archive.writestr(str(file.relative_to(clips)), file.read_bytes())
    return path
