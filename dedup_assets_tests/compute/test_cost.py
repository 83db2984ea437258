"""The cost model: arithmetic by hand, and the choice that follows from it."""

from collections.abc import Callable

import pytest

from dedup_assets.compute.cost import Choice, Rates, Workload, candidates, choose, predict

FREE = Rates()


def work(rows: int = 1000, **options: object) -> Workload:
    given: dict[str, object] = {
        "rows": rows,
        "dim": 8,
        "fit_rows": lambda clusters: min(rows, 256 * clusters),
        "groups": lambda clusters: 1,
    }
    return Workload(**{**given, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("clusters", "pairs"), [(1, 500_000), (2, 250_000), (10, 50_000)])
def test_pairs_are_half_the_square_of_the_rows_over_the_clusters(clusters: int, pairs: int):
    found = predict(work(), Rates(compare=2.0), clusters)
    assert found.compare == 2.0 * pairs
    assert found.total == found.compare


def test_uneven_clusters_hold_more_pairs_and_a_single_one_is_even():
    uneven = Rates(compare=1.0, squares=1.5, largest=4.0)
    assert predict(work(), uneven, 1).compare == 500_000
    assert predict(work(), uneven, 10).compare == pytest.approx(75_000)


def test_fitting_is_the_sample_times_clusters():
    """256 rows a centroid of 1,000 rows: with one cluster 256, with 4 and 9 all of them."""
    assert [predict(work(), Rates(fit=0.5), k).fit for k in (1, 4, 9)] == [128, 2000, 4500]


def test_assigning_is_rows_times_clusters():
    assert predict(work(), Rates(assign=0.25), 8).assign == 0.25 * 8000


def test_the_rest_is_rows_and_what_there_is_once():
    found = predict(work(), Rates(row=2.0, fixed=8.0), 10)
    assert found.rest == found.total == 2008


def test_what_is_missed_is_searched_for_with_more_than_one_cluster():
    assert [predict(work(), Rates(missed=2.0), k).rest for k in (1, 2, 9)] == [0, 2000, 2000]


def test_a_cluster_has_a_table_and_a_fragment_of_each_file_group():
    assert predict(work(groups=lambda clusters: 5), Rates(file=1.0), 10).rest == 60


def test_the_largest_cluster_has_to_fit_into_memory():
    even = predict(work(most_bytes=1000 * 8 * 4), FREE, 1)
    assert (even.largest_bytes, even.in_memory) == (32_000, True)
    assert not predict(work(most_bytes=31_999), FREE, 1).in_memory
    assert predict(work(), Rates(largest=2.0), 10).largest_bytes == 200 * 8 * 4
    assert predict(work(), FREE, 1).in_memory  # where the memory is unknown


def test_candidates_have_two_digits_and_end_at_the_most():
    assert candidates(1) == [1]
    assert candidates(12) == list(range(1, 13))
    assert candidates(123) == [*range(1, 100), 100, 110, 120, 123]
    assert candidates(2000)[-3:] == [1800, 1900, 2000]
    assert len(candidates(10**6)) == len(set(candidates(10**6))) == 99 + 90 * 4 + 1


def test_one_cluster_is_chosen_where_it_fits():
    found = choose(work(), Rates(compare=0.001), 500)
    assert (found.clusters, found.within_budget) == (1, True)


def test_the_fewest_clusters_within_the_budget_are_chosen():
    """500,000 pairs with one cluster, so 500 / K seconds."""
    for budget, clusters in ((499, 2), (250, 2), (249, 3), (10, 50), (5, 100), (4.9, 110)):
        found = choose(work(), Rates(compare=0.001), budget)
        assert (found.clusters, found.within_budget) == (clusters, True), budget


def test_the_fastest_is_chosen_where_none_is_within_the_budget():
    """500 / K to compare and 20 K to fit 1,000 rows: least at 5."""
    found = choose(work(), Rates(compare=0.001, fit=0.02), 100)
    assert (found.clusters, found.within_budget) == (5, False)
    assert found.chosen.total == pytest.approx(500 / 5 + 20 * 5)


def test_what_does_not_fit_into_memory_is_not_chosen():
    """2,000 rows of 8 numbers are 64,000 bytes."""
    tight = work(2000, most_bytes=16_000)
    found = choose(tight, Rates(compare=1e-9), 1000)
    assert (found.clusters, found.within_budget) == (4, True)
    assert [k for k, p in found.predictions.items() if not p.in_memory] == [1, 2, 3]
    slow = choose(tight, Rates(fit=1.0), 1.0)
    assert (slow.clusters, slow.within_budget) == (4, False)


def test_no_number_is_chosen_where_one_row_is_too_large():
    with pytest.raises(ValueError, match="small enough"):
        choose(work(most_bytes=0), FREE, 1000)


@pytest.mark.parametrize("rows", [1, 3, 60])
def test_there_are_never_more_clusters_than_rows_to_fit_on(rows: int):
    found = choose(work(rows), Rates(compare=1e9), 1.0)
    assert found.clusters == max(found.predictions) == rows
    fraction: Callable[[int], int] = lambda clusters: min(rows, 2)  # noqa: E731
    assert choose(work(rows, fit_rows=fraction), Rates(compare=1e9), 1.0).clusters <= 2


def shown(found: Choice, fewer: int, more: int) -> list[int]:
    return [p.clusters for p in found.neighbours(fewer, more)]


def test_neighbours_are_round_numbers_around_the_choice():
    found = choose(work(), Rates(compare=0.001), 7.0)
    assert found.clusters == 72
    assert shown(found, 3, 3) == [1, 10, 20, 50, 72, 100, 200, 500]
    assert shown(found, 1, 1) == [1, 50, 72, 100]
    assert shown(found, 0, 0) == [1, 72]


def test_neighbours_of_one_cluster_and_of_the_last():
    one = choose(work(), FREE, 1.0)
    assert shown(one, 3, 3) == [1, 2, 5, 10]
    last = choose(work(30), Rates(compare=1e9), 1.0)
    assert shown(last, 2, 3) == [1, 10, 20, 30]
