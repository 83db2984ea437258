"""The names of the product and their spelling on disk."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.errors import SettingsError
from dedup_assets.settings import FIELDS
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.guard import refuse_other_dataset, refuse_other_layout
from dedup_assets.store.tables import write_table
from dedup_assets_tests.s3 import S3Server

NEMO = layout.LAYOUTS["nemo"]
SPELLED = [
    (layout.fragment(12, "abc"), "kmeans/centroid=12/abc.parquet"),
    (layout.CLUSTERS, "kmeans"),
    (layout.scores(3), "pairwise/cluster_3.parquet"),
    (layout.SCORES, "pairwise"),
    (layout.unique_ids("0.01"), "duplicates/eps_0.01"),
    (layout.unique_ids_part("0.01", 7), "duplicates/eps_0.01/part.7.parquet"),
    (layout.unique_ids_part("0", 7), "duplicates/eps_0/part.7.parquet"),
]
SAME = [layout.CENTROIDS, layout.MANIFEST, layout.summary("0.01"), layout.HISTOGRAM, ""]


@pytest.mark.parametrize(("name", "on_disk"), [*SPELLED, *((name, name) for name in SAME)])
def test_names_go_to_disk_and_come_back(name: str, on_disk: str):
    assert NEMO.on_disk(name) == on_disk
    assert NEMO.inside("", on_disk) == name
    assert layout.LAYOUTS["cosmos-curate"].on_disk(name) == name


def test_each_layout_is_a_value_of_the_setting_and_owns_what_it_renames():
    field = FIELDS["layout"]
    assert set(field.annotation.__args__) == set(layout.LAYOUTS)
    for name, spelled in layout.LAYOUTS.items():
        assert spelled.name == name
        for canonical, on_disk in SPELLED:
            where = on_disk if name == "nemo" else canonical
            if canonical not in (layout.CLUSTERS, layout.SCORES):
                assert any(where.startswith(start) for start in spelled.owned), where
        for same in SAME:
            assert not any(same.startswith(start) for start in spelled.owned)
    assert NEMO.cluster_column == "centroid"
    assert layout.LAYOUTS["cosmos-curate"].cluster_column == "nearest_cent"


def in_both_layouts(root: str) -> list[Store]:
    return [Store(root, layout=name) for name in layout.LAYOUTS]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "out")
    server: S3Server = request.getfixturevalue("s3")
    return server.url("some/out")


def test_store_reads_lists_and_deletes_under_the_names_of_the_product(root: str):
    plain, nemo = in_both_layouts(root)
    for name, _ in SPELLED:
        if name.endswith(".parquet") and name.rpartition("/")[2] != "unique_ids_0.01.parquet":
            nemo.write_bytes(name, name.encode())
    assert nemo.list(layout.CLUSTERS) == ["nearest_cent=12/abc.parquet"]
    assert nemo.list(layout.cluster_folder(12)) == ["abc.parquet"]
    assert nemo.list(layout.SCORES, ".parquet") == ["cluster_3.parquet"]
    assert nemo.list(layout.unique_ids("0.01")) == ["part.7.parquet"]
    assert sorted(plain.list("")) == sorted(
        on_disk for _, on_disk in SPELLED if on_disk.endswith(".parquet")
    )
    assert sorted(nemo.list("")) == sorted(
        name for name, on_disk in SPELLED if on_disk.endswith(".parquet")
    )
    assert nemo.url(layout.scores(3)).endswith("/out/pairwise/cluster_3.parquet")
    nemo.delete(layout.scores(3))
    assert not nemo.exists(layout.scores(3))
    assert nemo.exists(layout.fragment(12, "abc"))


@pytest.mark.parametrize(
    "name", [layout.fragment(0, "abc"), layout.scores(0), layout.unique_ids_part("0.01", 0)]
)
@pytest.mark.parametrize("first", [0, 1])
def test_folder_of_one_layout_is_refused_for_the_other(root: str, name: str, first: int):
    stores = in_both_layouts(root)
    made, other = stores[first], stores[1 - first]
    made.write_bytes(layout.MANIFEST, b"")
    made.write_bytes(layout.summary("0.01"), b"")
    made.write_bytes("duplicates/of-somebody-else.parquet", b"")
    for store in stores:
        refuse_other_layout(store)  # there is nothing yet that would differ
    made.write_bytes(name, b"")
    refuse_other_layout(made)
    with pytest.raises(
        SettingsError, match=f"layout is {other.layout.name}, and .*written as"
    ) as e:
        refuse_other_layout(other)
    assert f"set layout to {made.layout.name}, choose another output_path, or delete" in str(
        e.value
    )
    assert made.layout.owned[0] in str(e.value)


def test_folder_of_another_dataset_is_refused_wherever_it_lies(root: str):
    store = Store(root)
    refuse_other_dataset(store, "mine")  # empty
    table = pa.table({"a": [1]})
    write_table(store, layout.MANIFEST, table, {"dataset": "mine"})
    refuse_other_dataset(store, "mine")
    with pytest.raises(SettingsError, match=r"holds the results of dataset 'mine'.*'yours'"):
        refuse_other_dataset(store, "yours")


@pytest.mark.parametrize("owner", ["{{ 1 }}\n" * 9000, ["mine"], {"a": 1}, 7, ""])
def test_owner_that_another_program_wrote_is_refused_in_one_short_line(tmp_path: Path, owner: Any):
    store = Store(str(tmp_path))
    write_table(store, layout.MANIFEST, pa.table({"a": [1]}), {"dataset": owner})
    with pytest.raises(SettingsError) as refused:
        refuse_other_dataset(store, "mine")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize("info", [b"[]", b"{", b"[" * 100_000, b"\xff", b"null"])
def test_manifest_of_another_program_is_nobodys(tmp_path: Path, info: bytes):
    store = Store(str(tmp_path))
    with store.write(layout.MANIFEST) as file:
        schema = pa.schema({"a": pa.int64()}, {b"dedup_assets": info})
        pq.write_table(pa.table({"a": [1]}, schema), file)
    refuse_other_dataset(store, "mine")
    store.write_bytes(layout.MANIFEST, b"cut")
    refuse_other_dataset(store, "mine")
