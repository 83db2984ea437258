"""The checks hold for what the stages write, and see what someone changed."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import StaleError
from dedup_assets.stages.shards import write_shards
from dedup_assets.stages.verify import (
    SAMPLED_CLUSTERS,
    _draw_removed,
    verify_conservation,
    verify_removed,
    verify_shards,
    verify_unique,
)
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import info_of, read_table, write_table
from dedup_assets_tests.conftest import Results, make_settings, run_stages, write_inputs

EPS = "0.01"


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    rows = [*mixed.tolist(), [0.0] * 12]
    write_inputs(tmp_path / "in", [*names, "zero"], rows, files=2)
    (tmp_path / "clips").mkdir()
    for name in names[1:]:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(name.encode())
    options: dict[str, Any] = {
        "clips_path": str(tmp_path / "clips"),
        "missing_media": "skip",
        "samples_per_shard": 30,
        "on_invalid": "quarantine",
    }
    config = make_settings(tmp_path, n_clusters=3, eps_thresholds=[EPS], **options)
    return run_stages(config)


def change(results: Results, name: str, **columns: Any) -> None:
    """Rewrite a table with other values, under the same fingerprint."""
    table = read_table(results.store, name)
    for column, values in columns.items():
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(values, field.type))
    write_table(results.store, name, table, info_of(table.schema))


def wrong_shards(results: Results) -> float:
    return verify_shards(Snapshot(results.settings, results.store), EPS).numbers["wrong_shards"]


def part_with_rows(results: Results) -> str:
    names = [layout.unique_ids_part(EPS, c) for c in range(3)]
    return next(name for name in names if read_table(results.store, name).num_rows > 2)


def test_all_hold_for_a_run(results: Results):
    arguments = (Snapshot(results.settings, results.store), EPS)
    found = results.duplicates[EPS]
    conserved = verify_conservation(*arguments)
    assert conserved.passed
    assert conserved.description == (
        f"kept {found.kept} + removed {found.removed} + rejected 1 = 121 input rows"
    )
    removed = verify_removed(*arguments)
    assert removed.passed
    assert removed.numbers == {"removed": found.removed, "sampled": found.removed, "wrong": 0}
    shards = verify_shards(*arguments)
    assert shards.passed
    assert shards.numbers["kept"] == shards.numbers["listed"] == found.kept


def test_a_summary_that_says_otherwise_is_seen(results: Results):
    text = results.store.read_bytes(layout.summary(EPS)).decode()
    results.store.write_bytes(layout.summary(EPS), text.replace(",1\n", ",2\n").encode())
    verdict = verify_conservation(Snapshot(results.settings, results.store), EPS)
    assert not verdict.passed
    assert "the summary says otherwise" in verdict.description


def test_a_lost_rejected_row_is_seen(results: Results):
    for name in results.store.list(layout.REJECTED):
        results.store.delete(f"{layout.REJECTED}/{name}")
    verdict = verify_conservation(Snapshot(results.settings, results.store), EPS)
    assert not verdict.passed
    assert "is not 121 input rows" in verdict.description


@pytest.mark.parametrize("column", ["max_id", "cosine_sim_score"])
def test_a_pair_that_is_not_as_stated_is_seen(results: Results, column: str):
    name = part_with_rows(results)
    table = read_table(results.store, name)
    values = table[column].to_pylist()
    values[1] = table["id"][1].as_py() if column == "max_id" else values[1] - 1e-3
    change(results, name, **{column: values})
    verdict = verify_removed(Snapshot(results.settings, results.store), EPS)
    assert (verdict.passed, verdict.numbers["wrong"]) == (False, 1)


def test_a_list_that_is_gone_or_cut_is_seen(results: Results):
    name = part_with_rows(results)
    table = read_table(results.store, name)
    write_table(results.store, name, table.slice(1), info_of(table.schema))
    snapshot = Snapshot(results.settings, results.store)
    conserved, removed = verify_conservation(snapshot, EPS), verify_removed(snapshot, EPS)
    assert (conserved.passed, removed.passed) == (False, False)
    assert removed.numbers["wrong"] == 1
    results.store.delete(name)
    verdict = verify_conservation(snapshot, EPS)
    assert "1 of the lists are missing or cut" in verdict.description


def test_removals_are_drawn_from_few_of_many_clusters():
    counts = {cluster: cluster % 7 for cluster in range(1000)}
    drawn = _draw_removed(counts, np.random.default_rng(3))
    assert 0 < len(drawn) <= SAMPLED_CLUSTERS
    for cluster, rows in drawn.items():
        assert len(rows) == len(set(rows.tolist())) > 0
        assert 0 <= rows.min() <= rows.max() < counts[cluster]


def test_nothing_removed_is_no_fault(tmp_path: Path):
    write_inputs(tmp_path / "in", list("abc"), np.eye(3, dtype=np.float32))
    results = run_stages(make_settings(tmp_path, n_clusters=1, eps_thresholds=[EPS]))
    verdict = verify_removed(Snapshot(results.settings, results.store), EPS)
    assert verdict.passed
    assert verdict.numbers == {"removed": 0, "sampled": 0, "wrong": 0}


def test_a_tar_that_holds_other_samples_is_seen(results: Results):
    first, second = results.curated[EPS].shards[:2]
    folder = layout.shards(EPS)
    results.store.write_bytes(f"{folder}/{first}", results.store.read_bytes(f"{folder}/{second}"))
    verdict = verify_shards(Snapshot(results.settings, results.store), EPS)
    assert (verdict.passed, verdict.numbers["wrong_shards"]) == (False, 1)
    results.store.delete(f"{folder}/{first}")
    assert not verify_shards(Snapshot(results.settings, results.store), EPS).passed


Member = tuple[str, bytes]


def rewrite(results: Results, edit: Callable[[list[Member]], list[Member]]) -> None:
    """Change the members of the first tar, and the index with them, so that offsets are right."""
    shard = results.curated[EPS].shards[0]
    path = Path(results.store.path(f"{layout.shards(EPS)}/{shard}"))
    with tarfile.open(path) as tar:
        before = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
        for name, data in edit(before):
            key = name.partition(".")[0]
            starts.setdefault(key, tar.offset)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            ends[key] = tar.offset
    index = read_table(results.store, layout.shard_index(EPS)).to_pylist()
    rows = [row for row in index if row["shard"] == shard]
    for row in rows:
        row["offset"] = starts[row["key"]]
        row["size"] = ends[row["key"]] - row["offset"]
    columns = {name: [row[name] for row in index] for name in ("offset", "size")}
    change(results, layout.shard_index(EPS), **columns)


def first_key(members: list[Member]) -> str:
    return members[0][0].partition(".")[0]


EDITS: dict[str, Callable[[list[Member]], list[Member]]] = {
    "clashing": lambda m: [*m[:2], (f"{first_key(m)}.MP4", b"x"), *m[2:]],
    "the same twice": lambda m: [*m[:2], m[1], *m[2:]],
    "the name of the sample": lambda m: [(f"{first_key(m)}.__key__", b"a/../../b"), *m],
    "a json of another case": lambda m: [(f"{first_key(m)}.JSON", b"{}"), *m],
    "without json": lambda m: m[1:],
    "a sample in two parts": lambda m: [m[0], *m[2:], m[1]],
    "in a folder": lambda m: [m[0], (f"sub/{m[1][0]}", m[1][1]), *m[2:]],
    "another order": lambda m: [*m[2:4], *m[:2], *m[4:]],
}


def test_a_tar_written_again_as_it_was_holds(results: Results):
    rewrite(results, lambda members: members)
    assert verify_shards(Snapshot(results.settings, results.store), EPS).passed


@pytest.mark.parametrize("edit", EDITS)
def test_a_tar_that_webdataset_would_read_otherwise_is_seen(results: Results, edit: str):
    """The index is made to fit, so that only the rule for names is left to see it."""
    rewrite(results, EDITS[edit])
    verdict = verify_shards(Snapshot(results.settings, results.store), EPS)
    assert (verdict.passed, verdict.numbers["wrong_shards"]) == (False, 1)


def test_a_member_that_was_added_to_a_sample_is_seen(results: Results):
    index = results.store.read_bytes(layout.shard_index(EPS))
    rewrite(results, lambda members: [*members, (f"{members[-1][0][:-4]}.txt", b"x")])
    assert verify_shards(Snapshot(results.settings, results.store), EPS).passed
    results.store.write_bytes(layout.shard_index(EPS), index)
    assert wrong_shards(results) == 1


def test_a_link_in_the_place_of_a_member_is_seen(results: Results):
    shard = results.curated[EPS].shards[0]
    path = Path(results.store.path(f"{layout.shards(EPS)}/{shard}"))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        member = tar.getmembers()[1]
    assert member.size <= tarfile.BLOCKSIZE
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
    start = member.offset
    data[start : start + tarfile.BLOCKSIZE] = member.tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(data)
    assert wrong_shards(results) == 1


def test_a_tar_that_is_cut_is_seen(results: Results):
    shard = results.curated[EPS].shards[0]
    path = Path(results.store.path(f"{layout.shards(EPS)}/{shard}"))
    path.write_bytes(path.read_bytes()[:-12000])
    assert wrong_shards(results) == 1


def test_plain_media_files_are_looked_at_too(results: Results):
    settings = results.settings.replace(export="media")
    write_shards(Snapshot(settings, results.store), EPS, replace_shards=True)
    assert verify_shards(Snapshot(settings, results.store), EPS).passed
    index = read_table(results.store, layout.shard_index(EPS)).to_pylist()
    folder = Path(results.store.path(f"{layout.shards(EPS)}/{index[0]['shard']}"))
    mine = folder / f"{index[0]['key']}.mp4"

    def is_seen() -> bool:
        return verify_shards(Snapshot(settings, results.store), EPS).numbers["wrong_shards"] == 1

    data = mine.read_bytes()
    mine.write_bytes(data + b"more")
    assert is_seen()
    mine.unlink()
    assert is_seen()
    mine.write_bytes(data)
    assert not is_seen()
    (folder / "stranger.mp4").touch()
    assert is_seen()


def test_an_index_that_names_others_is_seen(results: Results):
    name = layout.shard_index(EPS)
    ids = read_table(results.store, name)["id"].to_pylist()
    for wrong in (["stranger", *ids[1:]], [ids[1], *ids[1:]]):
        change(results, name, id=wrong)
        assert not verify_shards(Snapshot(results.settings, results.store), EPS).passed


def test_checks_refuse_what_is_not_current(results: Results):
    other = results.settings.replace(which_to_keep="easy")
    for verify in (verify_conservation, verify_removed, verify_shards):
        with pytest.raises(StaleError, match="materialize pairwise_scores"):
            verify(Snapshot(other, results.store), EPS)


def test_an_id_that_is_scored_twice_is_named_with_its_keys(results: Results) -> None:
    snapshot = Snapshot(results.settings, results.store)
    assert verify_unique(snapshot).passed
    key, other = list(snapshot.ledgers)[:2]
    ids = read_table(results.store, layout.score_ledger(key))["id"].to_pylist()
    twice = read_table(results.store, layout.score_ledger(other))["id"][0].as_py()
    change(results, layout.score_ledger(key), id=[twice, *ids[1:]])
    for budget in (1 << 30, 200):  # bytes; the second goes through scratch files
        verdict = verify_unique(
            Snapshot(results.settings.replace(memory_budget=budget), results.store)
        )
        assert not verdict.passed
        assert verdict.numbers["repeated"] == 1
        assert f"'{twice}' in the clusters of {key}, {other}" in verdict.description


def test_an_id_that_is_scored_twice_in_one_cluster_is_seen(results: Results) -> None:
    key = next(iter(Snapshot(results.settings, results.store).ledgers))
    ids = read_table(results.store, layout.score_ledger(key))["id"].to_pylist()
    change(results, layout.score_ledger(key), id=[ids[1], *ids[1:]])
    assert verify_unique(Snapshot(results.settings, results.store)).numbers["repeated"] == 1
