"""What the command starts Dagster for, and how it shows that."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from dedup_assets import checks
from dedup_assets.command.plan import WORK_TO_DO, plan_run, print_plan
from dedup_assets.command.runner import RunFailedError, run_graph
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import Work, plan_work
from dedup_assets.stages.verify import Verdict
from dedup_assets_tests.assets.helpers import KEYS, make_settings, open_instance

UNKNOWN = "current, and not recorded in this Dagster instance"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, dg.DagsterInstance]]:
    """An output that is current, with the instance that made it; no test changes either."""
    root = tmp_path_factory.mktemp("done")
    settings = make_settings(root)
    with open_instance(root / "dagster") as instance:
        run_graph(settings, instance, planned(settings, instance))
        yield settings, instance


@pytest.fixture
def other(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(tmp_path / "other") as instance:
        yield instance


def planned(settings: Settings, instance: dg.DagsterInstance) -> list[Work]:
    return plan_run(settings, settings.storage.open_output(), instance)


def printed(work: list[Work], *, as_json: bool = False) -> tuple[int, str]:
    text = io.StringIO()
    code = print_plan(Console(file=text, width=40), work, as_json=as_json)
    return code, text.getvalue()


def test_nothing_is_started_for_what_is_current_and_recorded(
    done: tuple[Settings, dg.DagsterInstance],
) -> None:
    settings, instance = done
    assert planned(settings, instance) == []
    runs = instance.get_runs_count()
    report = run_graph(settings, instance, [])
    assert (report.seconds, report.metadata) == ({}, {})
    assert instance.get_runs_count() == runs


def test_new_eps_starts_one_run_of_its_list_alone(
    done: tuple[Settings, dg.DagsterInstance],
) -> None:
    settings, instance = done
    more = settings.replace(eps_thresholds=[*settings.thresholds.eps_thresholds, "0.2"])
    work = planned(more, instance)
    assert work == [Work("duplicate_ids", "not listed yet", ("0.2",), 1)]


def test_instance_that_knows_nothing_of_a_current_output_looks_at_all_of_it(
    done: tuple[Settings, dg.DagsterInstance], other: dg.DagsterInstance
) -> None:
    """Else the UI on it would show nothing. All is found to be current, and nothing is made."""
    settings, _ = done
    assert plan_work(settings, settings.storage.open_output()) == []
    work = planned(settings, other)
    assert [str(item) for item in work] == [
        f"embeddings: {UNKNOWN}",
        f"centroids: {UNKNOWN}",
        f"cluster_partitions (3 of 3 keys): {UNKNOWN}",
        f"pairwise_scores (3 of 3 keys): {UNKNOWN}",
        f"missed_by_clustering: {UNKNOWN}",
        f"similarity_histogram: {UNKNOWN}",
        f"duplicate_ids (0.05): {UNKNOWN}",
        f"duplicate_ids (0.001): {UNKNOWN}",
        f"curated_shards (0.05): {UNKNOWN}",
    ]
    report = run_graph(settings, other, work)
    assert [part for part in report.recomputed() if part.new] == []
    assert planned(settings, other) == []


def test_each_asset_is_named_once_where_it_is_stale_and_not_recorded(
    done: tuple[Settings, dg.DagsterInstance], other: dg.DagsterInstance
) -> None:
    settings, _ = done
    easy = settings.replace(which_to_keep="easy")
    work = planned(easy, other)
    named = [(item.asset, item.keys) for item in work]
    assert len(named) == len(set(named)) == 9
    reasons = {item.asset: item.reason for item in work}
    assert reasons["cluster_partitions"] == UNKNOWN
    assert reasons["pairwise_scores"] == "missing or stale"
    assert reasons["similarity_histogram"] == "follows pairwise_scores"


def test_plan_that_is_only_printed_is_a_line_an_asset_and_exits_with_3() -> None:
    work = [
        Work("pairwise_scores", "missing or stale", tuple(KEYS[:2]), 3),
        Work("duplicate_ids", "follows [pairwise_scores], and a long reason", ("0.05",), 1),
    ]
    code, text = printed(work)
    assert code == WORK_TO_DO == 3
    assert text.splitlines() == [
        "  pairwise_scores (2 of 3 keys): missing or stale",
        "  duplicate_ids (0.05): follows [pairwise_scores], and a long reason",
    ]
    code, text = printed(work, as_json=True)
    assert code == WORK_TO_DO
    assert json.loads(text)[0] == {
        "asset": "pairwise_scores",
        "keys": ["0-1", "2-3"],
        "of": 3,
        "reason": "missing or stale",
    }


def test_plan_of_nothing_says_so_and_exits_with_0() -> None:
    assert printed([]) == (0, "everything is current; there is nothing to do\n")
    code, text = printed([], as_json=True)
    assert (code, json.loads(text)) == (0, [])


@pytest.mark.parametrize(
    ("function", "name", "made"),
    [
        ("verify_conservation", "rows_conserved", "duplicate_ids ({eps})"),
        ("verify_unique", "ids_unique", "similarity_histogram"),
    ],
)
def test_what_did_not_pass_its_check_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, name: str, made: str
) -> None:
    """Or the run after a failed one would find it current, and go on or exit with 0."""
    settings = make_settings(tmp_path)
    made = made.format(eps=settings.thresholds.eps_thresholds[0])
    with open_instance(tmp_path / "dagster") as instance:
        with monkeypatch.context() as patch:
            failing = Verdict(False, "rows are lost", {})
            patch.setattr(checks, function, lambda *_: failing)
            for _ in range(2):
                with pytest.raises(RunFailedError, match=f"{name} failed: rows are lost"):
                    run_graph(settings, instance, planned(settings, instance))
        work = planned(settings, instance)
        assert f"{made}: its check {name} did not pass" in map(str, work)
        run_graph(settings, instance, work)
        assert planned(settings, instance) == []
