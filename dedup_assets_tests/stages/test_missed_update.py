"""The sample for what clustering misses after changed input: equal to a fresh comparison."""

import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from dedup_assets.progress import listening
from dedup_assets.settings import FIELDS, Settings
from dedup_assets.stages import missed as missed_module
from dedup_assets.stages import sample_pass, sample_rows
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.missed import Missed, estimate_missed
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.sample_draw import SEED_OFFSET
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.arrow import hash_ids
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import info_of, read_table
from dedup_assets_tests.conftest import make_settings, write_parquet

pytestmark = pytest.mark.slow

ROWS = st.dictionaries(st.integers(0, 60), st.integers(0, 15), max_size=9)
"""Ids with the number of a vector."""

VECTORS = np.float32(
    [
        *([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1], [2, 1, 1]),
        *([-1, 0, 0], [0, -1, 0], [1, -1, 0], [1, 2, 3], [3, 2, 1], [2, 2, 0], [5, 0, 1]),
        [1, 1e-4, 0],
    ]
)
"""Copies but for their length, equal cosines, opposites, near copies."""


class Complete:
    """A listener that holds each pass to its total."""

    def __init__(self) -> None:
        self.open: list[list[int]] = []

    def start(self, label: str, total: int, unit: str) -> Any:
        self.open.append([total, 0])
        mine = self.open[-1]

        def advance(units: int) -> None:
            mine[1] += units

        return advance

    def finish(self) -> None:
        total, done = self.open.pop()
        assert done == total


def brought_up_to_date(settings: Settings) -> Missed:
    """The table after all that it depends on is current."""
    store = settings.storage.open_output()
    fit_centroids(settings, store, list_embeddings(settings, store), refit=False)
    shuffle(Snapshot(settings, store), list(cluster_ranges(settings)))
    with listening(Complete()):
        found = estimate_missed(Snapshot(settings, store))
    assert found is not None
    return found


def path_of(settings: Settings) -> Path:
    return Path(Store(settings.storage.output_path).path(layout.MISSED))


def assert_as_fresh(settings: Settings, found: Missed) -> None:
    """The file on disk, footer included, is that of a comparison from nothing."""
    path = path_of(settings)
    updated = path.read_bytes()
    path.unlink()
    fresh = estimate_missed(Snapshot(settings, Store(settings.storage.output_path)))
    assert fresh is not None
    assert (fresh.compared_with_all, fresh.compared_with_new) == (found.table.num_rows, 0)
    assert found.table.schema.equals(fresh.table.schema)
    assert found.table.to_pylist() == fresh.table.to_pylist()
    assert path.read_bytes() == updated


class Updates(RuleBasedStateMachine):
    """Files come, go, change and pass ids on; the table is brought up to date after some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.files: dict[str, dict[int, int]] = {}
        self.named = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(
        sample=st.sampled_from([8, 1000, 15, 1]),
        grouping=st.sampled_from([1, 1, 2]),
        most=st.sampled_from([64, 64, 3]),
        rows=st.lists(ROWS, min_size=1, max_size=4),
        batch=st.sampled_from([1, 5, 1024]),
    )
    def begin(
        self, sample: int, grouping: int, most: int, rows: list[dict[int, int]], batch: int
    ) -> None:
        self.batch = batch
        options = {"n_clusters": 3, "clusters_per_partition": 2, "max_fragments": most}
        options |= {"files_per_partition": grouping, "missed_sample": sample}
        self.settings = make_settings(self.root, **options)
        self._put({100 + i: i for i in range(10)})
        for some in rows:
            self._put(some)
        self.update()

    @rule(rows=ROWS, more=st.booleans())
    def add(self, rows: dict[int, int], more: bool) -> None:
        self._put(rows)
        self.update(more)

    @rule(data=st.data(), more=st.booleans())
    @precondition(lambda self: len(self.files) > 1)
    def remove(self, data: st.DataObject, more: bool) -> None:
        name = data.draw(st.sampled_from(list(self.files)[1:]))
        self._path(name).unlink()
        del self.files[name]
        self.update(more)

    @rule(data=st.data(), rows=ROWS, keep=st.booleans(), more=st.booleans())
    def replace(self, data: st.DataObject, rows: dict[int, int], keep: bool, more: bool) -> None:
        """Vectors of some ids change, or all rows do; the first file always has its rows."""
        names = list(self.files)
        name = data.draw(st.sampled_from(names))
        before = self.files[name]
        if keep or name == names[0]:
            rows = before | dict(zip(before, rows.values(), strict=False))
        self._put(rows, name)
        self.update(more)

    @rule(data=st.data(), more=st.booleans())
    @precondition(lambda self: len(self.files) > 2)
    def move(self, data: st.DataObject, more: bool) -> None:
        source, target = data.draw(st.permutations(list(self.files)[1:]))[:2]
        if self.files[source]:
            id_ = data.draw(st.sampled_from(list(self.files[source])))
            rows = self.files[target] | {id_: self.files[source].pop(id_)}
            self._put(self.files[source], source)
            self._put(rows, target)
            self.update(more)

    def update(self, more: bool = False) -> None:
        """Bring the table up to date, unless there are more changes to come."""
        if more:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sample_pass, "_TILE_ROWS", {"numpy": self.batch})
            found = brought_up_to_date(self.settings)
        counted = found.compared_with_all + found.compared_with_new
        assert counted == (0 if found.reused else found.table.num_rows)
        if not found.reused:
            assert_as_fresh(self.settings, found)

    def _put(self, rows: dict[int, int], name: str | None = None) -> None:
        """Write a file of the rows whose ids lie in no other file."""
        self.named += name is None
        name = name or f"{self.named % 7}{self.named:03d}"
        self.files.setdefault(name, {})
        taken = {id_ for file, others in self.files.items() if file != name for id_ in others}
        self.files[name] = rows = {id_: rows[id_] for id_ in rows if id_ not in taken}
        ids = pa.array([f"clip-{id_}" for id_ in rows], pa.string())
        vectors = VECTORS[list(rows.values())] if rows else np.empty((0, 3), np.float32)
        write_parquet(self._path(name), ids, vectors)

    def _path(self, name: str) -> Path:
        return self.root / "in" / f"{name}.parquet"


Updates.TestCase.settings = hypothesis_settings(max_examples=20, stateful_step_count=10)
TestUpdates = Updates.TestCase


@pytest.fixture
def done(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Settings:
    """Ninety rows in three files, of which twenty-five are sampled."""
    for number in range(3):
        rows = slice(30 * number, 30 * number + 30)
        write_parquet(tmp_path / "in" / f"{number}.parquet", names[rows], mixed[rows])
    options = {"n_clusters": 5, "clusters_per_partition": 5, "files_per_partition": 1}
    settings = make_settings(tmp_path, missed_sample=25, **options)
    found = brought_up_to_date(settings)
    assert (found.compared_with_all, found.compared_with_new) == (25, 0)
    return settings


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The group of each fragment read, by name, and whether its vectors were."""
    seen: list[tuple[str, bool]] = []

    def count(module: ModuleType, function: str, *, vectors: bool) -> None:
        real = getattr(module, function)

        def counting(store: Store, name: str, *rest: Any) -> Any:
            with store.open(name) as file:
                group = info_of(pq.ParquetFile(file).schema_arrow)["group"]
            seen.append((group, vectors))
            return real(store, name, *rest)

        monkeypatch.setattr(module, function, counting)

    count(sample_rows, "read_batches", vectors=False)
    count(sample_rows, "read_vector_batches", vectors=True)
    count(sample_pass, "read_chosen_vectors", vectors=True)
    return seen


def groups_of(settings: Settings) -> set[str]:
    return {group.name for group in Snapshot(settings, Store(settings.storage.output_path)).groups}


def sampled(settings: Settings) -> set[str]:
    return set(
        read_table(Store(settings.storage.output_path), layout.MISSED, ["id"])["id"].to_pylist()
    )


def test_rows_that_were_sampled_before_are_compared_with_new_rows_only(
    done: Settings, tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    before = sampled(done)
    write_parquet(tmp_path / "in" / "new.parquet", names[90:], mixed[90:])
    found = brought_up_to_date(done)
    drawn = sampled(done) - before
    assert drawn
    assert drawn <= set(names[90:])
    assert found.compared_with_all == len(drawn)
    assert found.compared_with_new == 25 - len(drawn)
    assert_as_fresh(done, found)


def test_ids_of_kept_files_are_not_read_where_rows_were_added(
    done: Settings,
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    read: list[tuple[str, bool]],
):
    kept = groups_of(done)
    write_parquet(tmp_path / "in" / "new.parquet", names[90:], mixed[90:])
    brought_up_to_date(done)
    ids_read = {group for group, vectors in read if not vectors}
    assert ids_read == groups_of(done) - kept


def test_a_file_with_the_same_ids_is_replaced_without_reading_ids_of_the_others(
    done: Settings, tmp_path: Path, mixed: np.ndarray, names: list[str], read: list[Any]
):
    """All rows that the sample lost come back."""
    kept = groups_of(done)
    before = sampled(done)
    write_parquet(tmp_path / "in" / "2.parquet", names[60:90], mixed[60:90] + np.float32(0.01))
    found = brought_up_to_date(done)
    assert sampled(done) == before
    assert {group for group, vectors in read if not vectors} == groups_of(done) - kept
    assert 0 < found.compared_with_new < 25
    assert_as_fresh(done, found)


def test_where_nothing_is_lost_the_vectors_of_each_fragment_are_read_once_at_most(
    done: Settings, tmp_path: Path, mixed: np.ndarray, names: list[str], read: list[Any]
):
    """One row that is not drawn: each sampled row is read, and compared with that row alone."""
    not_drawn = next(name for name in names[90:] if name not in drawn_of(names))
    write_parquet(tmp_path / "in" / "new.parquet", [not_drawn], mixed[:1])
    found = brought_up_to_date(done)
    assert (found.compared_with_all, found.compared_with_new) == (0, 25)
    vectors = [group for group, with_vectors in read if with_vectors]
    assert len(vectors) <= 3 * 5 + 1
    assert_as_fresh(done, found)


def drawn_of(names: list[str]) -> set[str]:
    """The 25 rows of all that have the lowest hash, with the default seed."""
    hashes = hash_ids(pa.array(names), FIELDS["random_state"].default + SEED_OFFSET)
    return {names[i] for i in np.argsort(hashes)[:25]}


def test_rows_that_lost_a_partner_are_compared_with_all(
    done: Settings, tmp_path: Path, names: list[str]
):
    table = read_table(Store(done.storage.output_path), layout.MISSED)
    gone = set(names[60:90])
    lost = {
        row["id"]
        for row in table.to_pylist()
        if row["id"] not in gone and {row["within_id"], row["across_id"]} & gone
    }
    stayed = set(table["id"].to_pylist()) - gone
    (tmp_path / "in" / "2.parquet").unlink()
    found = brought_up_to_date(done)
    assert 0 < len(lost) < len(stayed)
    assert found.compared_with_new == len(stayed - lost)
    assert found.compared_with_all == 25 - len(stayed - lost)
    assert_as_fresh(done, found)


@pytest.mark.parametrize("change", [{"missed_sample": 24}, {"random_state": 7}, {"n_clusters": 4}])
def test_other_settings_compare_all_rows_anew(done: Settings, tmp_path: Path, change: Any):
    found = brought_up_to_date(done.replace(**change))
    assert found.compared_with_new == 0
    assert found.compared_with_all == found.table.num_rows


def test_a_table_of_another_version_is_compared_anew(
    done: Settings,
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(missed_module, "VERSION", missed_module.VERSION + 1)
    write_parquet(tmp_path / "in" / "new.parquet", names[90:], mixed[90:])
    found = brought_up_to_date(done)
    assert (found.compared_with_all, found.compared_with_new) == (25, 0)


def test_the_table_of_the_first_version_is_compared_anew(done: Settings):
    """It names neither groups nor what it was asked for."""
    store = Store(done.storage.output_path)
    table = read_table(store, layout.MISSED).replace_schema_metadata(
        {b"dedup_assets": b'{"fingerprint": "of the first version"}'}
    )
    pq.write_table(table, path_of(done))
    found = brought_up_to_date(done)
    assert (found.compared_with_all, found.compared_with_new) == (25, 0)
    assert_as_fresh(done, found)
