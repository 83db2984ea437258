"""Tars of the kept clips, as the webdataset library reads them."""

import gc
import json
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from dedup_assets.errors import InputError
from dedup_assets.stages.shards import Curated, shards_lacking, write_shards
from dedup_assets.stages.verify import verify_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.members import sample_key
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import Results, bytes_of, make_settings, run_stages, write_inputs

EPS = "0.1"
IDS: list[Any] = [f"v{i:02d}" for i in range(10)]
ROWS = np.eye(10, dtype=np.float32)
ROWS[9] = ROWS[3]
KEPT = [i for i in IDS if i != "v09"]


def media_of(id_: Any) -> bytes:
    return f"moving picture {id_}".encode() * 50


def prepare(tmp_path: Path, ids: list[Any] = IDS, **options: Any) -> Any:
    """Inputs, a clip for each id under its key, and settings; ids without a clip in ``without``."""
    columns = options.pop("columns", {})
    without = options.pop("without", ())
    write_inputs(tmp_path / "in", ids, ROWS[: len(ids)], **columns)
    (tmp_path / "clips").mkdir()
    for id_ in ids:
        if id_ not in without:
            (tmp_path / "clips" / f"{sample_key(id_)}.mp4").write_bytes(media_of(id_))
    defaults = {
        "n_clusters": 1,
        "eps_thresholds": [EPS],
        "which_to_keep": "random",
        "rank_by": ["id:asc"],
        "clips_path": str(tmp_path / "clips"),
        "samples_per_shard": 4,
    }
    return make_settings(tmp_path, **defaults | options)


def shards_of(results: Results, pattern: str = "*/*.tar") -> list[Path]:
    return sorted((Path(results.store.root) / layout.shards(EPS)).glob(pattern))


def read_back(results: Results, pattern: str = "*/*.tar") -> list[dict[str, Any]]:
    urls = [str(path) for path in shards_of(results, pattern)]
    with warnings.catch_warnings():
        # The library leaves its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
        gc.collect()
    return samples


def test_kept_clips_come_back_with_key_json_and_media(tmp_path: Path):
    results = run_stages(prepare(tmp_path))
    samples = read_back(results)
    assert [s["__key__"] for s in samples] == KEPT
    for sample in samples:
        id_ = sample["__key__"]
        assert sample["mp4"] == media_of(id_)
        record = json.loads(sample["json"])
        assert record == {"id": id_, "cluster": 0, "score": None if id_ == "v00" else 0.0}


@pytest.mark.parametrize(("size", "tars"), [(1, 9), (2, 5), (3, 3), (8, 2), (9, 1), (10, 1)])
def test_shards_hold_so_many_samples_and_the_last_the_rest(tmp_path: Path, size: int, tars: int):
    results = run_stages(prepare(tmp_path, samples_per_shard=size))
    paths = shards_of(results)
    assert [path.name for path in paths] == [f"{n:05d}.tar" for n in range(tars)]
    index = results.curated[EPS].index
    counts = [index["shard"].to_pylist().count(f"{path.parent.name}/{path.name}") for path in paths]
    assert counts == [size] * (9 // size) + [9 % size] * (9 % size > 0)
    assert [s["__key__"] for s in read_back(results)] == KEPT


def test_index_locates_each_sample_in_its_tar(tmp_path: Path):
    ids = [*IDS[:8], "x" * 150, "long/" + "é" * 30]
    results = run_stages(prepare(tmp_path, ids))
    index = read_table(results.store, layout.shard_index(EPS)).to_pylist()
    folder = Path(results.store.path(layout.shards(EPS)))
    assert [row["id"] for row in index] == sorted(set(ids) - {"v03"})
    for row in index:
        assert row["key"] == sample_key(row["id"])
        data = (folder / row["shard"]).read_bytes()[row["offset"] :][: row["size"]]
        assert len(data) == row["size"]
        part = tmp_path / "part.tar"
        part.write_bytes(data)
        with tarfile.open(part) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        assert set(members) == {f"{row['key']}.json", f"{row['key']}.mp4"}
        assert members[f"{row['key']}.mp4"] == media_of(row["id"])
        assert json.loads(members[f"{row['key']}.json"])["id"] == row["id"]


@pytest.mark.parametrize(
    "ids",
    [
        ["a.b/c.mp4", "a/b/c", "..", "ü.1", "a b", "%41", "~", "-_9"],
        ["y" * 101, "y" * 200],
        ["é" * 60, "y" * 201, "/" * 3000],
        [5, -3, 2**40],
    ],
    ids=["marks", "long", "longer than a file name", "integers"],
)
def test_any_id_survives_the_way_through_a_tar(tmp_path: Path, ids: list[Any]):
    """Long keys need pax headers; dots and slashes must not reach webdataset's own parsing."""
    results = run_stages(prepare(tmp_path, ids))
    samples = read_back(results)
    assert [json.loads(s["json"])["id"] for s in samples] == sorted(ids)
    for sample in samples:
        id_ = json.loads(sample["json"])["id"]
        assert sample["__key__"] == sample_key(id_)
        assert sample["mp4"] == media_of(id_)


def test_all_files_of_an_id_travel_and_its_own_json_does_not_hide_ours(tmp_path: Path):
    config = prepare(tmp_path)
    nested = tmp_path / "clips" / "metas" / "v0"
    nested.mkdir(parents=True)
    (nested / "v00.json").write_text('{"mine": 1}')
    (nested / "v00.en.txt").write_text("a caption")
    sample = read_back(run_stages(config))[0]
    assert json.loads(sample["json"])["id"] == "v00"
    assert sample["source.json"] == b'{"mine": 1}'
    assert sample["en.txt"] == b"a caption"
    assert sample["mp4"] == media_of("v00")


@pytest.mark.parametrize("export", ["shards", "media"])
@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["v05.MP4"], r"id 'v05' has two media files, v05\.MP4 and v05\.mp4"),
        (["v05.json", "v05.source.json"], "two media files, v05.json and v05.source.json"),
        (["v05.__key__"], r"v05\.__key__ below .* cannot be in the sample of id 'v05'"),
    ],
)
def test_media_that_cannot_be_members_are_refused_before_anything_is_written(
    tmp_path: Path, export: str, names: list[str], says: str
):
    config = prepare(tmp_path, export=export)
    for name in names:
        (tmp_path / "clips" / name).write_bytes(b"v00/../../../../elsewhere")
    with pytest.raises(InputError, match=says):
        run_stages(config)
    assert not (Path(config.storage.output_path) / "shards").exists()
    for name in names:
        (tmp_path / "clips" / name).rename(tmp_path / "clips" / name.replace("v05", "v09"))
    assert run_stages(config).curated[EPS].kept == 9  # v09 is not kept


@pytest.mark.parametrize("export", ["shards", "media"])
def test_ids_that_are_keys_of_each_other_get_their_own_video(tmp_path: Path, export: str):
    ids = ["a b", "a%20b", "a%2520b"]
    config = prepare(tmp_path, ids, without=ids, export=export)
    for id_ in ids:
        (tmp_path / "clips" / f"{id_}.mp4").write_bytes(media_of(id_))
    results = run_stages(config)
    if export == "shards":
        found = {s["__key__"]: s["mp4"] for s in read_back(results)}
    else:
        folder = Path(results.store.path(layout.shards(EPS)))
        found = {path.stem: path.read_bytes() for path in folder.rglob("*.mp4")}
    assert found == {sample_key(id_): media_of(id_) for id_ in ids}


def test_removed_or_rejected_id_keeps_its_file_from_a_kept_one(tmp_path: Path):
    """What looks like the key of a kept id is the clip of another one."""
    for other in ("removed", "rejected"):
        root = tmp_path / other
        root.mkdir()
        twin = ROWS[0] if other == "removed" else np.zeros(10)
        config = prepare(root, ["a b", "a%20b"], without=["a b"], on_invalid="quarantine")
        write_inputs(root / "in", ["a b", "a%20b"], [ROWS[0], twin])
        (root / "clips" / "a%2520b.mp4").rename(root / "clips" / "a%20b.mp4")
        with pytest.raises(InputError, match=r"may belong to id 'a%20b', .* or to id 'a b'"):
            run_stages(config)
        (root / "clips" / "a b.mp4").write_bytes(media_of("a b"))
        assert [sample["mp4"] for sample in read_back(run_stages(config))] == [media_of("a b")]


def test_media_file_whose_name_ends_in_a_dot_does_not_stop_the_run(tmp_path: Path):
    config = prepare(tmp_path)
    (tmp_path / "clips" / "v00.").write_bytes(b"no extension")
    assert read_back(run_stages(config))[0]["mp4"] == media_of("v00")


def test_metadata_is_in_the_json_without_nan(tmp_path: Path):
    nan = float("nan")
    columns = {"fps": [nan, *[24.0] * 9], "tags": [[nan, 1.0]] * 10, "title": [None, *IDS[1:]]}
    config = prepare(tmp_path, columns=columns, metadata_fields=["fps", "title", "tags"])
    texts = [sample["json"].decode() for sample in read_back(run_stages(config))]
    assert not [text for text in texts if "NaN" in text]
    first, second = (json.loads(text)["metadata"] for text in texts[:2])
    assert first == {"fps": None, "title": None, "tags": [None, 1.0]}
    assert second["fps"] == 24.0
    assert second["title"] == "v01"


@pytest.mark.parametrize("name", ["cluster", "cosine_sim_score", "score", "max_id", "key"])
def test_metadata_of_any_name_hides_no_field_of_ours(tmp_path: Path, name: str):
    columns = {name: [f"theirs {i}" for i in IDS]}
    results = run_stages(prepare(tmp_path, columns=columns, metadata_fields=[name]))
    for sample in read_back(results):
        record = json.loads(sample["json"])
        assert record["cluster"] == 0
        assert record["metadata"] == {name: f"theirs {record['id']}"}


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    config = prepare(tmp_path)
    run_stages(config)
    other = config.replace(output_path=str(tmp_path / "other"))
    run_stages(other)
    ours, theirs = (bytes_of(Path(c.storage.output_path) / "shards") for c in (config, other))
    assert ours == theirs
    assert len(ours) == 4


def test_tar_members_have_no_owner_and_no_time(tmp_path: Path):
    for path in shards_of(run_stages(prepare(tmp_path))):
        with tarfile.open(path) as tar:
            fixed = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar}
        assert len(fixed) == 1
        time, *_, user, group, mode = fixed.pop()
        assert (time, user, group, mode) == (0, "", "", 0o644)


def test_missing_media_fail_naming_ten_and_the_count(tmp_path: Path):
    ids = [f"w{i:02d}" for i in range(10)]
    config = prepare(tmp_path, [*ids], without=ids[1:])
    says = r"8 of 9 kept clips have no media file .*clips: 'w01', .* set missing_media to skip"
    with pytest.raises(InputError, match=says):
        run_stages(config)
    assert not (Path(config.storage.output_path) / "shards").exists()


def test_a_removed_clip_may_lack_its_media(tmp_path: Path):
    assert run_stages(prepare(tmp_path, without=["v09"])).curated[EPS].missing == 0


def test_skipped_clips_are_listed_and_the_list_goes_when_they_are_there(tmp_path: Path):
    config = prepare(tmp_path, without=["v01", "v04"], missing_media="skip")
    results = run_stages(config)
    curated = results.curated[EPS]
    assert (curated.kept, curated.missing, len(curated.index)) == (9, 2, 7)
    assert read_table(results.store, layout.missing_media(EPS))["id"].to_pylist() == ["v01", "v04"]
    assert [s["__key__"] for s in read_back(results)] == [i for i in KEPT if i not in "v01 v04"]
    for id_ in ("v01", "v04"):
        (tmp_path / "clips" / f"{id_}.mp4").write_bytes(media_of(id_))
    again = run_stages(config)
    assert not again.curated[EPS].reused
    assert not again.store.exists(layout.missing_media(EPS))
    assert [s["__key__"] for s in read_back(again)] == KEPT


def test_without_a_clips_folder_the_index_names_the_kept_ids(tmp_path: Path):
    results = run_stages(prepare(tmp_path, clips_path=None))
    rows = read_table(results.store, layout.shard_index(EPS)).to_pylist()
    nothing = {"shard": None, "offset": None, "size": None}
    assert rows == [{"id": i, "key": i, **nothing} for i in KEPT]
    assert results.store.list(layout.shards(EPS)) == ["index.parquet"]


def test_plain_media_files_instead_of_tars(tmp_path: Path):
    ids = [*IDS[:8], "a/b.c"]
    results = run_stages(prepare(tmp_path, ids, export="media"))
    folder = Path(results.store.path(layout.shards(EPS)))
    rows = read_table(results.store, layout.shard_index(EPS)).to_pylist()
    assert [row["id"] for row in rows] == sorted(ids)
    assert not list(folder.glob("**/*.tar"))
    for row in rows:
        assert (folder / row["shard"] / f"{row['key']}.mp4").read_bytes() == media_of(row["id"])
        record = json.loads((folder / row["shard"] / f"{row['key']}.json").read_text())
        assert record["id"] == row["id"]
    assert len(list((folder / rows[0]["shard"]).iterdir())) == 2 * len(ids)


@pytest.mark.parametrize("export", ["shards", "media"])
def test_a_changed_or_smaller_run_leaves_only_what_the_index_names(tmp_path: Path, export: str):
    config = prepare(tmp_path, samples_per_shard=1, export=export)
    first = set(run_stages(config).store.list(layout.shards(EPS)))
    larger = config.replace(samples_per_shard=5)
    results = run_stages(larger)
    found = set(results.store.list(layout.shards(EPS)))
    assert not found & (first - {"index.parquet"})
    assert {name.split("/")[0] for name in found - {"index.parquet"}} == {
        row.split("/")[0] for row in results.curated[EPS].shards
    }


@pytest.mark.parametrize("export", ["shards", "media"])
def test_a_lost_part_of_the_set_is_written_again(tmp_path: Path, export: str):
    config = prepare(tmp_path, export=export)
    results = run_stages(config)
    before = bytes_of(config.storage.output_path)
    name = next(n for n in results.store.list(layout.shards(EPS)) if "/" in n)
    results.store.delete(f"{layout.shards(EPS)}/{name}")
    assert not run_stages(config).curated[EPS].reused
    assert bytes_of(config.storage.output_path) == before


def test_what_a_killed_run_left_uncommitted_is_deleted(tmp_path: Path):
    config = prepare(tmp_path)
    results = run_stages(config)
    before = bytes_of(config.storage.output_path)
    results.store.write_bytes(f"{layout.shards(EPS)}/{layout.shard('feed', 0)}", b"half")
    run_stages(config)
    assert bytes_of(config.storage.output_path) == before


def test_a_changed_clip_is_written_again(tmp_path: Path):
    config = prepare(tmp_path)
    run_stages(config)
    (tmp_path / "clips" / "v02.mp4").write_bytes(b"another take")
    results = run_stages(config)
    curated: Curated = results.curated[EPS]
    assert not curated.reused
    assert next(s for s in read_back(results) if s["__key__"] == "v02")["mp4"] == b"another take"


@pytest.mark.parametrize("export", ["shards", "media"])
def test_clips_go_to_folders_by_their_shape(tmp_path: Path, export: str):
    wide = [i % 3 == 0 for i in range(len(IDS))]
    columns = {"width": [1920 if w else 480 for w in wide], "height": [1080] * len(IDS)}
    config = prepare(
        tmp_path,
        columns=columns,
        export=export,
        bucket_by=["aspect_ratio", "resolution"],
        samples_per_shard=2,
    )
    results = run_stages(config)
    index = results.curated[EPS].index
    folders = {
        "resolution_1080/aspect_ratio_16_9": [i for i, w in zip(IDS, wide, strict=True) if w],
        "resolution_lt_720/aspect_ratio_9_16": [i for i, w in zip(IDS, wide, strict=True) if not w],
    }
    for folder, ids in folders.items():
        kept = [id_ for id_ in KEPT if id_ in ids]
        rows = [row for row in index.to_pylist() if f"/{folder}" in row["shard"]]
        assert [row["id"] for row in rows] == kept
        if export == "shards":
            names = [
                f"{results.curated[EPS].fingerprint}/{folder}/{i // 2:05d}.tar" for i in range(9)
            ]
            assert [row["shard"] for row in rows] == names[: len(kept)]
    assert index.num_rows == len(KEPT)
    assert verify_shards(Snapshot(config, results.store), EPS).passed
    assert write_shards(Snapshot(config, results.store), EPS).reused
    assert shards_lacking(Snapshot(config, results.store), EPS) == ""
    if export == "shards":
        samples = read_back(results, "**/*.tar")
        assert sorted(s["__key__"] for s in samples) == KEPT
        assert json.loads(samples[0]["json"])["metadata"] == {"width": 1920, "height": 1080}


def test_shapes_need_their_columns(tmp_path: Path):
    with pytest.raises(InputError, match="width"):
        run_stages(prepare(tmp_path, bucket_by=["aspect_ratio"]))
