"""What holds for every input: it is refused in one line, or nothing runs, moves or is lost."""

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import yaml
from webdataset import tariterators

from dedup_assets.command.settings_file import check_output, load_settings, write_settings
from dedup_assets.component import SemanticDedup
from dedup_assets.scaffolding import component_yaml
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store

CANARY = "canary"


class BrokenPromiseError(Exception):
    """A promise that did not hold."""


@dataclass(frozen=True)
class Job:
    """A run: settings, the ids of its rows, and media by name below its clips folder."""

    settings: dict[str, Any]
    ids: list[str]
    media: dict[str, bytes]
    folder: Path


def keep_settings(values: dict[str, Any], folder: Path) -> None:
    """Settings come back from ``settings.json``, and from the YAML of a project, as they were."""
    settings = Settings.of(**values)
    store = Store(str(folder / "kept"))
    write_settings(settings, store)
    _equal(settings.replace(output_path=store.root), load_settings(store.root))
    document = yaml.safe_load(component_yaml(settings))
    component = SemanticDedup.from_attributes_dict(attributes=document["attributes"])
    _equal(settings, Settings.of(**component.values()))
    _nothing_ran(folder)


def read_damaged_settings(files: dict[str, bytes], folder: Path) -> None:
    """They are read as data or refused."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    load_settings(str(folder))
    _nothing_ran(folder)


def run_job(job: Job) -> None:
    """A run changes nothing but its output, and each sample has the media of its own id."""
    before = _below(job.folder)
    try:
        settings = Settings.of(**job.settings)
        _run(settings)
    finally:
        _nothing_ran(job.folder)
        _only_output_changed(job, before)
    _equal(settings, load_settings(settings.storage.output_path))
    samples = _samples(settings)
    index = pq.read_table(_on_disk(settings, layout.shard_index("0"))).to_pylist()
    keys = {row["id"]: row["key"] for row in index}
    missing = _on_disk(settings, layout.missing_media("0"))
    absent = set(pq.read_table(missing)["id"].to_pylist()) if Path(missing).exists() else set()
    _expect(set(keys) | absent == set(job.ids), f"ids {set(keys) | absent}, given {job.ids}")
    _expect(not set(keys) & absent, "an id is there and missing")
    if job.settings["clips_path"] is None:
        return
    _expect(sorted(samples) == sorted(keys.values()), f"samples {list(samples)}, index {keys}")
    for id_, key in keys.items():
        members = dict(samples[key])
        _expect(json.loads(members.pop("json"))["id"] == id_, f"the JSON of {id_!r} has another id")
        _expect(bool(members), f"{id_!r} has no media")
        for extension, data in members.items():
            _own_media(job, id_, extension, data)


def _run(settings: Settings) -> None:
    refuse_overlaps(settings)
    check_output(settings)
    store = settings.storage.open_output()
    write_settings(settings, store)
    keys = list(cluster_ranges(settings))
    manifest = list_embeddings(settings, store)
    fit_centroids(settings, store, manifest, refit=False)
    shuffle(Snapshot(settings, store), keys)
    score(Snapshot(settings, store), keys)
    list_duplicates(Snapshot(settings, store), "0")
    write_shards(Snapshot(settings, store), "0")


def _samples(settings: Settings) -> dict[str, dict[str, bytes]]:
    """Members by key and extension, as webdataset reads tars, or of a folder of files."""
    found: dict[str, dict[str, bytes]] = {}
    folder = Path(_on_disk(settings, layout.shards("0")))
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".tar" and settings.shards.export == "shards":
            stream = io.BytesIO(path.read_bytes())
            with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
                names = tar.getnames()
            files = tariterators.tar_file_expander([{"url": "tar", "stream": stream}])
            for sample in tariterators.group_by_keys(files):
                members = {k: v for k, v in sample.items() if k not in ("__key__", "__url__")}
                _expect(sample["__key__"] not in found, "one key twice")
                found[sample["__key__"]] = members
            read = sum(map(len, found.values()))
            _expect(len(names) <= read, f"{len(names)} members are written, {read} are read")
        elif path.is_file() and settings.shards.export == "media" and path.parent != folder:
            key, _, extension = path.name.partition(".")
            found.setdefault(key, {})[extension] = path.read_bytes()
    return found


def _own_media(job: Job, id_: str, extension: str, data: bytes) -> None:
    """A member is a file whose name is the id, or else the id's key and no other id."""
    key = quote(id_, safe="").replace(".", "%2E").replace("~", "%7E")
    name = next((name for name, media in job.media.items() if media == data), None)
    _expect(name is not None, f"{id_!r} has a member that is no media")
    stem, _, own = str(name).rpartition("/")[2].partition(".")
    own = f"source.{own}" if own.lower() == "json" else own
    _expect(own.lower() == extension.lower(), f"{name!r} became .{extension}")
    shortened = len(key) > 200 and stem.startswith(key[:160])
    _expect(stem in (id_, key) or shortened, f"{id_!r} got {name!r}")
    exact = {media.rpartition("/")[2].partition(".")[0] for media in job.media} & {id_}
    _expect(stem == id_ or stem not in job.ids or bool(exact), f"{id_!r} got {name!r}")


def _below(folder: Path) -> dict[str, str]:
    """What lies below a folder, links and devices as they are, files by their content."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink():
                found[str(path)] = f"link to {path.readlink()}"
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[str(path)] = "folder" if path.is_dir() else "special"
    return found


def _only_output_changed(job: Job, before: dict[str, str]) -> None:
    after = _below(job.folder)
    output = os.path.realpath(job.settings["output_path"])
    changed = [path for path in before if after.get(path) != before[path]]
    _expect(not changed, f"changed or gone: {changed}")
    inside = (output, f"{output}/")
    new = [path for path in after if path not in before]
    outside = [path for path in new if path != output and not path.startswith(inside[1])]
    _expect(not [p for p in outside if not output.startswith(f"{p}/")], f"written: {outside}")


def _on_disk(settings: Settings, name: str) -> str:
    return settings.storage.open_output().path(name)


def _nothing_ran(folder: Path) -> None:
    _expect(not (folder / CANARY).exists(), "code from data ran")


def _equal(expected: Settings, found: Settings) -> None:
    ours, theirs = expected.values(), found.values()
    wrong = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    _expect(not wrong, f"settings came back otherwise: {wrong}")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise BrokenPromiseError(otherwise)
