"""File groups: what a new file changes."""

from typing import Any

import pyarrow as pa

from dedup_assets.settings import Settings
from dedup_assets.state import manifest as manifests
from dedup_assets.state.groups import GROUP_BYTES, Group, group_bytes, regroup
from dedup_assets.state.manifest import Manifest


def groups_of(names: list[str], size: int, **options: Any) -> list[Group]:
    files = [{"file": n, "rows": 1, "bytes": size, "fingerprint": n} for n in sorted(names)]
    manifest = Manifest(files, 2, pa.string(), pa.schema([]), "")
    settings = Settings.of(
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
    many = Settings.of(input_embeddings_path="in", output_path="out", n_clusters=50_000)
    assert group_bytes(many) == 50_000 << 20


def regrouped(
    before: list[str], now: list[str], changed: tuple[str, ...] = (), **options: Any
) -> list[list[str]]:
    """The names in each group, after a first cut of ``before`` and one of ``now``."""
    settings = Settings.of(
        input_embeddings_path="in", output_path="out", **{"n_clusters": 1, **options}
    )
    files = [{"file": n, "rows": 1, "bytes": 1, "fingerprint": n} for n in sorted(before)]
    numbers = regroup(settings, files, {})
    earlier = {
        f["file"]: (f["fingerprint"], number) for f, number in zip(files, numbers, strict=True)
    }
    files = [
        {"file": n, "rows": 1, "bytes": 1, "fingerprint": n + "!" * (n in changed)}
        for n in sorted(now)
    ]
    found: dict[int, list[str]] = {}
    for file, number in zip(files, regroup(settings, files, earlier), strict=True):
        found.setdefault(number, []).append(file["file"])
    return [found[number] for number in sorted(found)]


def test_new_files_make_new_groups_and_old_groups_stay_wherever_the_new_ones_sort() -> None:
    assert regrouped(["b", "d"], ["a", "b", "c", "d", "e"]) == [["a", "c", "e"], ["b", "d"]]


def test_a_group_that_lost_a_file_or_has_a_changed_one_is_cut_anew() -> None:
    assert regrouped(["a", "b"], ["b", "c"]) == [["b", "c"]]
    assert regrouped(["a", "b"], ["a", "b", "c"], changed=("a",)) == [["a", "b", "c"]]


def test_files_per_partition_counts_for_new_files_only() -> None:
    before = list("abcd")
    first = regrouped(before, before, files_per_partition=3)
    assert first == [["a", "b", "c"], ["d"]]
    assert regrouped(before, list("abcdefgh"), files_per_partition=3) == [
        ["a", "b", "c"],
        ["d"],
        ["e", "f", "g"],
        ["h"],
    ]


def test_beyond_max_fragments_small_groups_are_joined() -> None:
    names = list("abcd")
    options = {"files_per_partition": 1, "max_fragments": 4}
    assert len(regrouped(names, names, **options)) == 4
    assert regrouped(names, [*names, "e"], **options) == [["a", "b", "c", "d", "e"]]


def test_large_groups_are_never_joined() -> None:
    settings = Settings.of(
        input_embeddings_path="in", output_path="out", n_clusters=1, max_fragments=2
    )
    files = [
        {"file": f"{i}", "rows": 1, "bytes": GROUP_BYTES, "fingerprint": f"{i}"} for i in range(9)
    ]
    assert regroup(settings, files, {}) == list(range(9))
