"""That the fuzz test sees a promise that does not hold."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.settings import Settings
from dedup_assets_tests.fuzz import promises, worker
from dedup_assets_tests.fuzz.hostile import make_hostile
from dedup_assets_tests.fuzz.made import Made
from dedup_assets_tests.fuzz.promises import (
    BrokenPromiseError,
    Job,
    _below,
    keep_settings,
    run_job,
)

Samples = dict[str, dict[str, bytes]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two clips with their media, and a file beside them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "clips").mkdir()
    vectors = pa.array([[1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": ["a", "b"], "embedding": vectors}), tmp_path / "in/x.parquet")
    media = {f"{id_}.mp4": f"media of {id_}".encode() for id_ in "ab"}
    for name, data in media.items():
        (tmp_path / "clips" / name).write_bytes(data)
    settings = {
        "input_embeddings_path": str(tmp_path / "in"),
        "clips_path": str(tmp_path / "clips"),
        "output_path": str(tmp_path / "out"),
        "n_clusters": 1,
        "eps_to_extract": "0",
        "missed_sample": 0,
        "device": "cpu",
    }
    return Job(settings, ["a", "b"], media, tmp_path)


@pytest.mark.parametrize("export", ["shards", "media"])
def test_a_plain_run_holds(job: Job, export: str):
    job.settings["export"] = export
    run_job(job)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("canary", "code from data ran"),
        ("beside", "written: "),
        ("in/x.parquet", "changed or gone: "),
        ("clips/b.mp4", "changed or gone: "),
    ],
)
def test_what_a_run_does_elsewhere_is_seen(
    job: Job, monkeypatch: pytest.MonkeyPatch, name: str, says: str
):
    real = promises._run

    def run(settings: Settings) -> None:
        real(settings)
        (job.folder / name).write_bytes(b"other")

    monkeypatch.setattr(promises, "_run", run)
    with pytest.raises(BrokenPromiseError, match=says):
        run_job(job)


def swap(found: Samples) -> None:
    found["a"]["mp4"], found["b"]["mp4"] = found["b"]["mp4"], found["a"]["mp4"]


def strange(found: Samples) -> None:
    found["a"]["mp4"] = b"secret"


def lose(found: Samples) -> None:
    del found["a"]


def empty(found: Samples) -> None:
    del found["a"]["mp4"]


def rename(found: Samples) -> None:
    found["a"]["txt"] = found["a"].pop("mp4")


def other_id(found: Samples) -> None:
    found["a"]["json"] = b'{"id": "b"}'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (swap, "'a' got 'b.mp4'"),
        (strange, "'a' has a member that is no media"),
        (lose, "samples "),
        (empty, "'a' has no media"),
        (rename, r"'a.mp4' became \.txt"),
        (other_id, "the JSON of 'a' has another id"),
    ],
)
def test_wrong_media_are_seen(
    job: Job, monkeypatch: pytest.MonkeyPatch, change: Callable[[Samples], None], says: str
):
    real = promises._samples

    def samples(settings: Settings) -> Samples:
        found = real(settings)
        change(found)
        return found

    monkeypatch.setattr(promises, "_samples", samples)
    with pytest.raises(BrokenPromiseError, match=says):
        run_job(job)


def test_settings_that_come_back_otherwise_are_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    values = {"input_embeddings_path": "/in", "output_path": "/out", "n_clusters": 2}
    keep_settings(values, tmp_path)
    real = promises.load_settings

    def load(output: str) -> Settings:
        return real(output).replace(n_clusters=3)

    monkeypatch.setattr(promises, "load_settings", load)
    with pytest.raises(BrokenPromiseError, match=r"otherwise: \{'n_clusters': \(2, 3\)\}"):
        keep_settings(values, tmp_path)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BrokenPromiseError("x"), "broken promise"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "FileNotFoundError"),
        (OSError("nowhere"), "traceback"),
        (KeyError("x"), "traceback"),
        (None, "held"),
    ],
)
def test_outcomes_are_told_apart(tmp_path: Path, error: Exception | None, outcome: str):
    def act() -> None:
        if error is not None:
            raise error

    assert worker.tried(Made("x", tmp_path, act=act), tmp_path)[0] == outcome


def test_one_seed_makes_one_case(tmp_path: Path):
    def made(name: str) -> list[tuple[str, int]]:
        cases = []
        for seed in range(40):
            folder = tmp_path / f"{name}-{seed}"
            folder.mkdir()
            cases.append((make_hostile(random.Random(seed), folder).kind, len(_below(folder))))
        return cases

    assert made("one") == made("two")
