"""S3 that stops answering, or stops accepting the credentials, in the middle of a run."""

from pathlib import Path

import pytest

from dedup_assets.store import access
from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call, Outcome
from dedup_assets_tests.faults import Fault, FaultyProxy, faulty
from dedup_assets_tests.s3 import KEY, SECRET, S3Server

NEVER_S = 60.0


@pytest.fixture
def inputs(tmp_path: Path, s3: S3Server) -> S3Server:
    write_part(tmp_path / "embeddings", near_duplicates())
    write_clips(tmp_path / "clips", clip_ids())
    for path in [*(tmp_path / "embeddings").iterdir(), *(tmp_path / "clips").iterdir()]:
        s3.put(str(path.relative_to(tmp_path)), path.read_bytes())
    return s3


def run(call: Call, s3: S3Server, *more: str) -> Outcome:
    return call(
        *("run", "--input-embeddings-path", s3.url("embeddings"), "--n-clusters", "4"),
        *("--clips-path", s3.url("clips"), "--output-path", s3.url("output")),
        *("--eps-to-extract", "0.01", *more),
    )


def run_through(call: Call, s3: S3Server, proxy: FaultyProxy) -> Outcome:
    flags = ("--input-s3-endpoint-url", proxy.endpoint, "--storage-retries", "1")
    return run(call, s3, *flags, "--output-s3-endpoint-url", proxy.endpoint)


def artifacts(s3: S3Server) -> dict[str, bytes]:
    names = s3.names("output")
    return {n: s3.get(n) for n in names if ".locks/" not in n and not n.endswith("settings.json")}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("late", path="list-type=2.*embeddings"), "could not list it"),
        (Fault("stalled", method="GET", path="list-type=2.*clips"), "could not list it"),
        (Fault("stalled", method="GET", path="/embeddings/"), "could not read it"),
        (Fault("late", method="PUT", path="clustering_results"), "could not write it"),
        (Fault("late", path="", after="PUT .*semdedup_pruning_tables"), "could not"),
    ],
    ids=["listing", "listing-half", "body", "upload", "everything-after-the-tables"],
)
def test_an_endpoint_that_stops_answering_ends_in_one_line(
    call: Call, inputs: S3Server, monkeypatch: pytest.MonkeyPatch, fault: Fault, says: str
) -> None:
    monkeypatch.setattr(access, "_READ_TIMEOUT_S", 0.3)
    fault.delay_s = NEVER_S
    with faulty(inputs.endpoint) as proxy:
        proxy.faults = [fault]
        outcome = run_through(call, inputs, proxy)
        assert proxy.committed[fault.kind] >= 2
    assert outcome.code == 1, outcome.out
    assert len(outcome.err.strip().splitlines()) == 1
    assert says in outcome.err
    assert "tried 2 times" in outcome.err
    assert "run again when the store answers" in outcome.err
    assert f"s3://{inputs.bucket}/" in outcome.err


@pytest.mark.parametrize(
    ("kind", "after", "says"),
    [
        ("ExpiredToken", "kmeans_centroids", "the session token of the credentials has expired"),
        ("InvalidAccessKeyId", "pruning_tables", "the store does not accept the credentials"),
        ("AccessDenied", r"shards/.*\.tar", "not allowed to"),
    ],
)
def test_credentials_that_become_wrong_in_the_middle(
    call: Call, inputs: S3Server, kind: str, after: str, says: str
) -> None:
    """One line without the credentials; with good ones the same command goes on."""
    with faulty(inputs.endpoint) as proxy:
        proxy.faults = [Fault(kind, after=f"PUT .*{after}")]
        outcome = run_through(call, inputs, proxy)
        assert proxy.committed[kind] >= 1
    assert outcome.code == 1, outcome.out
    assert len(outcome.err.strip().splitlines()) == 1
    assert says in outcome.err
    assert f"s3://{inputs.bucket}/" in outcome.err
    assert KEY not in outcome.out + outcome.err
    assert SECRET not in outcome.out + outcome.err
    assert not [name for name in inputs.names("output") if name.endswith("index.parquet")]
    healthy = run(call, inputs)
    assert healthy.code == 0, healthy.err
    resumed = artifacts(inputs)
    for name in inputs.names("output"):
        inputs.client().delete_object(Bucket=inputs.bucket, Key=name)
    undisturbed = run(call, inputs)
    assert undisturbed.code == 0, undisturbed.err
    assert resumed == artifacts(inputs)
