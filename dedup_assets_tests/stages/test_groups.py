"""File groups: what a new file changes."""

from typing import Any

import pyarrow as pa

from dedup_assets.settings import Settings
from dedup_assets.state import manifest as manifests
from dedup_assets.state.groups import GROUP_BYTES, Group, group_bytes
from dedup_assets.state.manifest import Manifest


def groups_of(names: list[str], size: int, **options: Any) -> list[Group]:
    files = [{"file": n, "rows": 1, "bytes": size, "fingerprint": n} for n in sorted(names)]
    manifest = Manifest(files, 2, pa.string(), pa.schema([]), "")
    settings = Settings(
        input_embeddings_path="in", output_path="out", **{"n_clusters": 1, **options}
    )
    return manifests.groups_of(settings, manifest)


def test_every_file_is_in_one_group_in_order() -> None:
    names = [f"{i:04d}" for i in range(500)]
    groups = groups_of(names, GROUP_BYTES // 10)
    assert [f["file"] for g in groups for f in g.files] == names
    assert 30 <= len(groups) <= 70  # 50 on average


def test_a_file_that_sorts_first_leaves_the_other_groups_as_they_are() -> None:
    names = [f"{i:04d}" for i in range(500)]
    before = {g.name for g in groups_of(names, GROUP_BYTES // 10)}
    for new in ("0000a", "0250a", "9999"):
        after = {g.name for g in groups_of([*names, new], GROUP_BYTES // 10)}
        assert len(before - after) <= 1
        assert len(after - before) <= 2


def test_files_per_partition_counts_files() -> None:
    groups = groups_of([f"{i}" for i in range(7)], 1, files_per_partition=3)
    assert [len(g.files) for g in groups] == [3, 3, 1]


def test_a_large_file_is_a_group_of_its_own() -> None:
    assert [len(g.files) for g in groups_of(["a", "b", "c"], 2 * GROUP_BYTES)] == [1, 1, 1]


def test_many_clusters_make_larger_groups() -> None:
    many = Settings(input_embeddings_path="in", output_path="out", n_clusters=50_000)
    assert group_bytes(many) == 50_000 << 20
