"""Hostile ids and names of files: refused, or each sample comes back as it was promised."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from webdataset import tariterators

from dedup_assets.errors import InputError
from dedup_assets.stages.samples import Packing, Sample, pack, parts
from dedup_assets.store import layout
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.members import keys_of_others, refuse_shared_keys, sample_key
from dedup_assets_tests.conftest import bytes_of, make_settings

EPS = "0.1"
LONG = "é" * 60
IDS = [
    ["a b", "a%20b", "a%2520b"],
    ["a.b", "a%2Eb", "a", "A"],
    ["a/b", "a%2Fb", "..", "../../a", "/a"],
    ["__a", "__key__", "json", "__"],
    ["~", "%", "é", "e\u0301", "a\nb", " "],
    [LONG, sample_key(LONG), "y" * 200],
]
"""Ids that may take each other's files."""

TAME = [["mp4", "txt", "en.txt"], ["json", "_x", "ü"], ["m p4", "m%704", "x" * 50]]
WILD = [
    ["mp4", "MP4", "en.txt", "en.TXT"],
    ["json", "JSON", "source.json", "Source.Json"],
    ["__key__", "__KEY__", "__url__", "__bad__", "__local_path__"],
    ["mp4__", "__", "__x", "_"],
    ["", ".mp4", "..", "../x", "...mp4"],
    ["m\np4", "\x1b[2J", "\udcff", "mp4 ", "mp4\u0085", "\u2028"],
    ["x" * 50, "x" * 54, "x" * 55, "x" * 100, "ü" * 30],
    ["K", "\u212a", "k", "İ", "i\u0307"],
]
"""Extensions that may be one member, or none."""


@st.composite
def arrangements(draw: st.DrawFn, kinds: list[list[str]]) -> tuple[list[str], int, list[str]]:
    """Ids, how many of them are kept, and the names of files, most of them of one of the ids."""
    odd = st.text(alphabet="aA%20E5./é~_", min_size=1, max_size=6)
    family = draw(st.sampled_from(IDS))
    ids = draw(st.lists(st.sampled_from(family) | odd, min_size=1, max_size=4, unique=True))
    stems = st.sampled_from([*ids, *map(sample_key, ids), *family])
    kind = draw(st.sampled_from(kinds))
    extensions = st.sampled_from([*kind, *kind, "mp4"])
    names = st.builds("{}{}.{}".format, st.sampled_from(["", "", "x/", "y/"]), stems, extensions)
    files = draw(st.lists(names.filter(_can_be_a_file), min_size=1, max_size=8, unique=True))
    return ids, draw(st.integers(1, len(ids))), files


def _can_be_a_file(name: str) -> bool:
    base = name[2:] if name.startswith(("x/", "y/")) else name
    return 0 < len(base.encode(errors="surrogateescape")) <= 255 and "/" not in base


def promised(ids: list[str], kept: int, files: list[str]) -> dict[str, dict[str, str]] | None:
    """What the documentation says, read file by file; None: it is refused.

    The file of each member in lower case, for each kept id with media.
    """
    stems = {file: file.rpartition("/")[2].partition(".")[0] for file in files}
    owned: dict[str, dict[str, dict[bool, list[str]]]] = defaultdict(lambda: defaultdict(dict))
    for file, stem in stems.items():
        extension = file.rpartition("/")[2].partition(".")[2].lower()
        if not stem or not extension:
            continue
        exact = [id_ for id_ in ids if id_ == stem]
        by_key = [id_ for id_ in ids if id_ != stem and sample_key(id_) == stem]
        if exact and by_key:
            if by_key[0] not in stems.values():
                if {*exact, *by_key} & set(ids[:kept]):
                    return None
                continue
            by_key = []
        for id_ in exact + by_key:
            name = "source.json" if extension == "json" else extension
            owned[id_][name].setdefault(bool(exact), []).append(file)
    best = {
        id_: {name: ranks.get(True) or ranks[False] for name, ranks in owned[id_].items()}
        for id_ in ids[:kept]
        if owned[id_]
    }
    if any(len(found) > 1 for members in best.values() for found in members.values()):
        return None
    return {id_: {name: f[0] for name, f in members.items()} for id_, members in best.items()}


def samples_of(matched: dict[str, Any]) -> Iterator[Sample]:
    for id_, members in matched.items():
        if any(members.values()):
            yield Sample(id_, sample_key(id_), members, f"of {id_}".encode())


def read_tars(folder: Path) -> list[dict[str, bytes]]:
    """The samples as webdataset groups the members."""
    samples: list[dict[str, bytes]] = []
    for path in sorted(folder.rglob("*.tar")):
        with path.open("rb") as stream:
            files = tariterators.tar_file_expander([{"url": path.name, "stream": stream}])
            samples += tariterators.group_by_keys(files)
    return [{k: v for k, v in sample.items() if k != "__url__"} for sample in samples]


def read_folder(folder: Path) -> list[dict[str, bytes]]:
    samples: dict[str, dict[str, bytes]] = {}
    for name, data in bytes_of(folder).items():
        key, _, extension = name.removeprefix("media/").partition(".")
        assert "/" not in key + extension
        sample = samples.setdefault(key, {"__key__": key})  # type: ignore[dict-item]
        assert extension.lower() not in sample
        sample[extension.lower()] = data
    return list(samples.values())


def try_out(root: Path, export: str, ids: list[str], kept: int, files: list[str]) -> bool:
    """Write and read the samples back; whether they were accepted."""
    for name in files:
        path = root / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape") * 100)
    before = bytes_of(root)
    config = make_settings(root, n_clusters=1, samples_per_shard=2, export=export)
    media = MediaFiles(str(root / "clips"))
    try:
        refuse_shared_keys(pl.Series(ids[:kept], dtype=pl.String))
        matched = media.match(ids[:kept], keys_of_others(pl.Series(ids, dtype=pl.String)))
    except InputError as error:
        assert str(error).isprintable()
        assert bytes_of(root) == before
        return False
    common = Packing(config, EPS, "set", str(root / "clips"), pa.string(), None)
    packed = pack(common, parts(config, samples_of(matched)), lambda clips: None)
    index = [row for _, table in packed for row in table.to_pylist()]
    after = bytes_of(root)
    assert {name: data for name, data in after.items() if not name.startswith("out/")} == before
    folder = root / "out" / layout.shards(EPS) / "set"
    found = (read_tars if export == "shards" else read_folder)(folder)
    expected = promised(ids, kept, files)
    assert expected is not None
    by_key = {sample["__key__"]: sample for sample in found}
    assert len(found) == len(by_key) == len(index) == len(expected)
    for id_, members in expected.items():
        contents = {
            name: file.encode(errors="surrogateescape") * 100 for name, file in members.items()
        }
        ours = {"__key__": sample_key(id_), "json": f"of {id_}".encode()}
        assert by_key[sample_key(id_)] == ours | contents
    return True


@pytest.mark.parametrize("export", ["shards", "media"])
@settings(max_examples=400)
@given(arrangement=arrangements(TAME + WILD))
def test_hostile_names_are_refused_or_read_back(
    tmp_path: Path, export: str, arrangement: tuple[list[str], int, list[str]]
):
    ids, kept, files = arrangement
    with tempfile.TemporaryDirectory(dir=tmp_path) as root:
        accepted = try_out(Path(root), export, ids, kept, files)
    event("accepted" if accepted else "refused")


@settings(max_examples=200)
@given(arrangement=arrangements(TAME))
def test_names_without_a_clash_are_accepted(
    tmp_path: Path, arrangement: tuple[list[str], int, list[str]]
):
    ids, kept, files = arrangement
    keys = {sample_key(id_) for id_ in ids[:kept]}
    if len(keys) == kept:
        with tempfile.TemporaryDirectory(dir=tmp_path) as root:
            accepted = try_out(Path(root), "media", ids, kept, files)
        assert accepted == (promised(ids, kept, files) is not None)
        event("accepted" if accepted else "refused")
