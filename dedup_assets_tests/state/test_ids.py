"""Every id must occur once: removal by id would lose all copies of a row."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.state.groups import Group
from dedup_assets.state.ids import find_duplicate_ids, forget_other_ids
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets_tests.conftest import write_parquet

IN_MEMORY, SPILL = 1 << 30, 48


def found(folder: Path, files: list[list[Any]], budget: int, **options: Any) -> Any:
    for i, ids in enumerate(files):
        array = pa.array(ids, options.get("id_type", pa.string()))
        write_parquet(folder / f"{i}.parquet", array, [[1.0]] * len(ids))
    inputs = InputFiles(str(folder), "id", "embedding", [])
    with tempfile.TemporaryDirectory() as output:
        return find_duplicate_ids(inputs, Store(output), groups(*map(len, files)), budget)


def groups(*rows: int) -> list[Group]:
    """A group a file."""
    return [Group(f"group-{i}", [{"file": f"{i}.parquet", "rows": n}]) for i, n in enumerate(rows)]


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_repeated_ids_are_named_with_the_file_of_each_occurrence(tmp_path: Path, budget: int):
    files = [["a", "b", "c"], ["d", "b", "e"], ["e", "e", "f"]]
    count, places = found(tmp_path, files, budget)
    assert count == 2
    assert places == {
        "b": ["0.parquet", "1.parquet"],
        "e": ["1.parquet", "2.parquet", "2.parquet"],
    }


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_unique_ids_are_none(tmp_path: Path, budget: int):
    assert found(tmp_path, [["a", "b"], ["c"], []], budget) == (0, {})


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_null_ids_do_not_repeat(tmp_path: Path, budget: int):
    """They are rejected one by one, later."""
    assert found(tmp_path, [[None, "a", None], [None]], budget) == (0, {})


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_only_null_ids(tmp_path: Path, budget: int):
    assert found(tmp_path, [[None] * 20], budget) == (0, {})


@pytest.mark.parametrize("type_", [pa.int32(), pa.int64(), pa.uint64()], ids=str)
def test_integer_ids(tmp_path: Path, type_: pa.DataType):
    count, places = found(tmp_path, [[1, 2], [3, 1]], IN_MEMORY, id_type=type_)
    assert (count, places) == (1, {1: ["0.parquet", "1.parquet"]})


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_of_many_the_count_is_whole_and_ten_are_named(tmp_path: Path, budget: int):
    ids = [f"v{i:04d}" for i in range(1500)]
    count, places = found(tmp_path, [ids, ids], budget)
    assert count == 1500
    assert len(places) == 10


@settings(max_examples=30)
@given(st.lists(st.lists(st.text(alphabet="ab", max_size=4), max_size=8), min_size=1, max_size=3))
def test_spilled_and_in_memory_agree_with_a_plain_count(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]]
):
    folder = tmp_path_factory.mktemp("ids")
    everything = [id_ for ids in files for id_ in ids]
    repeated = sorted({id_ for id_ in everything if everything.count(id_) > 1})
    for budget in (IN_MEMORY, SPILL):
        count, places = found(folder, files, budget)
        assert count == len(repeated)
        assert list(places) == repeated[:10]
        assert all(len(places[id_]) == everything.count(id_) for id_ in places)


@pytest.fixture
def three(tmp_path: Path) -> tuple[InputFiles, Store]:
    for i, ids in enumerate((["a", "b"], ["c", "d"], ["e", "b"])):
        write_parquet(tmp_path / "in" / f"{i}.parquet", ids, [[1.0]] * len(ids))
    return InputFiles(str(tmp_path / "in"), "id", "embedding", []), Store(str(tmp_path / "out"))


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_of_groups_that_were_compared_before_no_id_is_read_again(
    three: tuple[InputFiles, Store], monkeypatch: pytest.MonkeyPatch, budget: int
):
    files, store = three
    assert find_duplicate_ids(files, store, groups(2), budget) == (0, {})
    read: list[str] = []
    real = InputFiles.read_ids

    def read_ids(self: InputFiles, name: str) -> Any:
        read.append(name)
        return real(self, name)

    monkeypatch.setattr(InputFiles, "read_ids", read_ids)
    assert find_duplicate_ids(files, store, groups(2, 2), budget) == (0, {})
    assert read == ["1.parquet"]


@pytest.mark.parametrize("budget", [IN_MEMORY, SPILL])
def test_an_id_of_a_new_file_that_an_old_one_has_is_named_and_nothing_recorded(
    three: tuple[InputFiles, Store], budget: int
):
    files, store = three
    find_duplicate_ids(files, store, groups(2, 2), budget)
    recorded = store.list(layout.ID_HASHES)
    for _ in range(2):
        found = find_duplicate_ids(files, store, groups(2, 2, 2), budget)
        assert found == (1, {"b": ["0.parquet", "2.parquet"]})
        assert store.list(layout.ID_HASHES) == recorded


def test_an_id_may_move_into_a_new_file_when_its_old_one_goes(three: tuple[InputFiles, Store]):
    files, store = three
    find_duplicate_ids(files, store, groups(2, 2), IN_MEMORY)
    left = groups(2, 2, 2)[1:]
    assert find_duplicate_ids(files, store, left, IN_MEMORY) == (0, {})
    forget_other_ids(store, left)
    assert store.list(layout.ID_HASHES) == ["group-1.parquet", "group-2.parquet"]
