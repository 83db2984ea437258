"""What clustering misses: the sample, its partners, the share, and when it is made again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import StaleError
from dedup_assets.progress import listening
from dedup_assets.stages import sample_draw, sample_pass
from dedup_assets.stages.missed import Missed, estimate_missed, find_missed
from dedup_assets.stages.quality import verify_missed
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import hash_ids
from dedup_assets.store.tables import read_table
from dedup_assets_tests.compute.oracle import best_partners
from dedup_assets_tests.conftest import Results, make_settings, run_stages, write_inputs
from dedup_assets_tests.stages.oracle import normalised

Row = tuple[Any, ...]
EPS = ["0", "0.001", "0.01", "0.1", "0.3"]


def expected_rows(results: Results, ids: list[Any], vectors: np.ndarray) -> dict[Any, Row]:
    """The row of each id, by brute force over the clusters that the pipeline made."""
    cluster = {
        row[0]: c for c in range(results.settings.clustering.n_clusters) for row in results.pairs(c)
    }
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    x = normalised(vectors)[order]
    names = [ids[i] for i in order]
    clusters = np.array([cluster[name] for name in names])
    rows: dict[Any, Row] = {}
    for i, (within, across) in enumerate(best_partners(x, clusters, np.arange(len(x)))):
        inside = (names[within[0]], within[1]) if within else (None, None)
        outside = (names[across[0]], int(clusters[across[0]]), across[1]) if across else (None,) * 3
        rows[names[i]] = (names[i], int(clusters[i]), *inside, *outside)
    return rows


def rows_of(missed: Missed | None) -> list[Row]:
    assert missed is not None
    return [tuple(row.values()) for row in missed.table.to_pylist()]


def estimated(results: Results, **changes: Any) -> Missed:
    found = estimate_missed(Snapshot(results.settings.replace(**changes), results.store))
    assert found is not None
    return found


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    write_inputs(tmp_path / "in", names, mixed, files=3)
    return run_stages(make_settings(tmp_path, n_clusters=7, files_per_partition=1))


def test_partners_of_all_rows_agree_with_brute_force(
    results: Results, mixed: np.ndarray, names: list[str]
):
    missed = estimated(results)
    expected = expected_rows(results, names, mixed)
    assert rows_of(missed) == [expected[name] for name in sorted(names)]
    for eps in EPS:
        threshold = np.float32(1 - float(eps))
        within = [row[3] is not None and row[3] >= threshold for row in expected.values()]
        across = [row[6] is not None and row[6] >= threshold for row in expected.values()]
        found = missed.at(eps)
        assert found.of == sum(w or a for w, a in zip(within, across, strict=True))
        assert found.part == sum(a and not w for w, a in zip(within, across, strict=True))
        assert found.low == found.high == found.value == found.part / found.of
    assert missed.at("0.3").part > 0


def test_sample_is_of_the_size_asked_for_and_its_rows_are_those_of_the_whole(results: Results):
    whole = {row[0]: row for row in rows_of(estimated(results))}
    sample = estimated(results, missed_sample=25)
    rows = rows_of(sample)
    assert len(rows) == 25
    assert rows == [whole[row[0]] for row in rows]
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    found = sample.at("0.3")
    assert found.low < (found.value or 0) < found.high


def test_sample_holds_the_rows_of_lowest_hash_and_not_those_of_the_k_means_sample(
    results: Results, names: list[str]
):
    """The rows that k-means was fitted on lie closer to their centroids than others do."""
    drawn = {row[0] for row in rows_of(estimated(results, missed_sample=25))}
    ids, seed = pa.array(names), results.settings.clustering.random_state
    ours = np.argsort(hash_ids(ids, seed + sample_draw.SEED_OFFSET))[:25]
    theirs = np.argsort(hash_ids(ids, seed))[:25]
    assert drawn == {names[i] for i in ours}
    assert len(drawn & {names[i] for i in theirs}) < 15


def test_other_files_batches_and_budgets_give_the_same_table(
    results: Results,
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    first = estimated(results, missed_sample=40)
    order = np.random.default_rng(1).permutation(120)
    write_inputs(tmp_path / "b" / "in", [names[i] for i in order], mixed[order], files=7)
    other = run_stages(make_settings(tmp_path / "b", n_clusters=7, files_per_partition=2))
    assert other.centroids.content == results.centroids.content
    monkeypatch.setattr(sample_draw, "_ID_ROWS", 5)
    for rows, budget in ((1, 20_000), (7, 10_000_000), (1000, 10_000_000)):
        monkeypatch.setattr(sample_pass, "_TILE_ROWS", {"numpy": rows})
        other.store.delete(layout.MISSED)
        found = estimated(other, missed_sample=40, memory_budget=budget)
        assert not found.reused
        assert found.table.equals(first.table)


@pytest.mark.parametrize("type_", [pa.int32(), pa.uint64()], ids=str)
def test_integer_ids_keep_their_type_and_order_as_numbers(
    tmp_path: Path, mixed: np.ndarray, type_: pa.DataType, rng: np.random.Generator
):
    ids = [int(i) for i in rng.permutation(2000)[:120]]
    write_inputs(tmp_path / "in", ids, mixed, files=3, id_type=type_)
    results = run_stages(make_settings(tmp_path, n_clusters=5))
    missed = estimated(results)
    expected = expected_rows(results, ids, mixed)
    assert rows_of(missed) == [expected[i] for i in sorted(ids)]
    assert missed.table.schema == schemas.missed(type_)
    on_disk = read_table(results.store, layout.MISSED)
    assert on_disk.schema.field("across_id").type == type_


def test_copies_that_fill_one_cluster_are_not_missed_and_empty_clusters_do_no_harm(tmp_path: Path):
    write_inputs(tmp_path / "in", list("dacbe"), np.tile(np.float32([1, 2]), (5, 1)))
    results = run_stages(make_settings(tmp_path, n_clusters=3))
    rows = rows_of(estimated(results))
    cluster = rows[0][1]
    assert rows == [
        ("a", cluster, "b", 1.0, None, None, None),
        *((id_, cluster, "a", 1.0, None, None, None) for id_ in "bcde"),
    ]
    assert estimated(results).at("0").value == 0.0


def test_rows_set_aside_are_no_partners(tmp_path: Path, mixed: np.ndarray, names: list[str]):
    vectors = [*mixed.tolist(), [0.0] * 12, [float("nan")] * 12]
    write_inputs(tmp_path / "in", [*names, "zero", "nan"], vectors, files=2)
    results = run_stages(make_settings(tmp_path, n_clusters=4, on_invalid="quarantine"))
    missed = estimated(results)
    expected = expected_rows(results, names, mixed)
    assert rows_of(missed) == [expected[name] for name in sorted(names)]
    assert missed.rows == 120


def test_one_cluster_misses_nothing_and_needs_no_pass(
    results: Results, monkeypatch: pytest.MonkeyPatch
):
    estimated(results)
    one = run_stages(results.settings.replace(n_clusters=1))
    monkeypatch.setattr(sample_pass, "BestPartners", None)
    missed = estimated(one)
    assert missed.one_cluster
    assert missed.at("0.3").value == 0.0
    assert missed.describe("0.3") == "0.0%"
    assert not one.store.exists(layout.MISSED)


def test_switched_off_it_leaves_nothing_behind(results: Results):
    estimated(results)
    off = results.settings.replace(missed_sample=0)
    assert find_missed(Snapshot(off, results.store)) is None
    assert estimate_missed(Snapshot(off, results.store)) is None
    assert not results.store.exists(layout.MISSED)


def test_sample_is_cut_to_a_quarter_of_the_memory_budget(results: Results):
    """Of 12 dimensions, 9,600 bytes hold 200 rows."""
    assert len(rows_of(estimated(results, memory_budget=9_600))) == 50


def test_current_table_is_not_made_again(results: Results):
    assert find_missed(Snapshot(results.settings, results.store)) is None
    first = estimated(results)
    path = Path(results.store.path(layout.MISSED))
    before = (path.stat().st_mtime_ns, path.read_bytes())
    changes: list[dict[str, Any]] = [
        {},
        {"missed_limit": 0.5},
        {"eps_thresholds": ["0.3"]},
        {"which_to_keep": "easy"},
        {"pairwise_batch_size": 8},
        {"memory_budget": 1 << 20, "missed_sample": 2000},
    ]
    for change in changes:
        again = estimated(results, **change)
        assert again.reused
        assert again.table.equals(first.table)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    for change in ({"missed_sample": 30}, {"missed_sample": 2000}):
        assert not estimated(results, **change).reused
    assert path.read_bytes() == before[1]


def test_new_input_makes_it_stale(
    results: Results, tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    estimated(results)
    write_inputs(tmp_path / "in" / "more", ["new"], mixed[:1])
    grown = run_stages(results.settings)
    assert find_missed(Snapshot(grown.settings, grown.store)) is None
    rows = {row[0]: row for row in rows_of(estimated(grown))}
    assert len(rows) == 121
    assert rows["new"][3] == rows["clip-000"][3] == 1.0


def test_missing_fragments_are_named(results: Results):
    next(Path(results.settings.storage.output_path).glob("**/nearest_cent=*/*.parquet")).unlink()
    with pytest.raises(StaleError, match="is missing; materialize cluster_partitions again"):
        estimate_missed(Snapshot(results.settings, results.store))


def test_pass_reports_every_row(results: Results):
    passes: dict[str, list[int]] = {}

    class Listener:
        def start(self, label: str, total: int, unit: str) -> Any:
            done = passes.setdefault(label, [total, 0])

            def advance(units: int) -> None:
                done[1] += units

            return advance

        def finish(self) -> None:
            pass

    with listening(Listener()):
        estimated(results, missed_sample=10)
    assert passes["sampling"] == passes["comparing a sample"] == [120, 120]


def by_hand(*scores: tuple[float | None, float | None], rows: int = 1000) -> Missed:
    """A table of within and across scores."""
    columns = [
        *(range(len(scores)), [0] * len(scores), [1] * len(scores), [s[0] for s in scores]),
        *([2] * len(scores), [1] * len(scores), [s[1] for s in scores]),
    ]
    schema = schemas.missed(pa.int64())
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return Missed(pa.table(arrays, schema=schema), rows, False, "print", reused=False)


@pytest.mark.parametrize("eps", ["0", "0.1", "0.05", "0.01", "0.001"])
def test_row_equal_to_the_threshold_is_a_duplicate_and_the_next_below_is_none(eps: str):
    equal = float(np.float32(1 - float(eps)))
    below = float(np.nextafter(np.float32(equal), np.float32(-1)))
    table = by_hand((equal, equal), (below, equal), (equal, below), (below, below), (None, equal))
    found = table.at(eps)
    assert (found.part, found.of) == (2, 4)


def test_no_duplicates_in_the_sample_has_no_share_and_a_clear_text():
    missed = by_hand((0.5, 0.2), (None, None))
    assert missed.at("0.1").value is None
    assert missed.describe("0.1") == "no duplicates in the sample"
    assert missed.describe("0.5") == "0.0% (0.0 to 79.3%)"
    assert replace(missed, rows=2).describe("0.5") == "0.0%"


def test_check_warns_above_the_limit_and_not_at_it(results: Results):
    found = estimated(results)
    share = found.at("0.3").value
    assert share is not None
    assert share > 0
    at = results.settings.replace(eps_thresholds=["0", "0.3"], missed_limit=share)
    verdict = verify_missed(Snapshot(at, results.store))
    assert verdict.passed
    assert verdict.numbers == {"limit": share, "worst": share, "sampled": 120}
    below = at.replace(missed_limit=np.nextafter(share, 0))
    verdict = verify_missed(Snapshot(below, results.store))
    assert not verdict.passed
    assert verdict.description == (
        f"clustering misses more than missed_limit {share:g} of the duplicates: "
        f"{found.describe('0.3')} at eps 0.3; lower n_clusters, which costs more comparisons, or "
        f"raise the limit; the pairs are in {results.store.path(layout.MISSED)}"
    )


def test_check_says_when_there_is_nothing_to_check(results: Results):
    verdict = verify_missed(Snapshot(results.settings.replace(missed_sample=0), results.store))
    assert verdict.passed
    assert verdict.description == "not estimated: missed_sample is 0"
    with pytest.raises(StaleError, match="missing or stale; materialize missed_by_clustering"):
        verify_missed(Snapshot(results.settings, results.store))
    estimated(results)
    verdict = verify_missed(Snapshot(results.settings, results.store))
    assert verdict.passed
    assert "no eps is configured" in verdict.description
