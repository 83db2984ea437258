"""``dedup-assets run`` with input and output on S3: a real server on loopback."""

import io
import json
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call, Outcome
from dedup_assets_tests.command.helpers import summary
from dedup_assets_tests.faults import Fault, faulty
from dedup_assets_tests.s3 import KEY, SECRET, S3Server, forget_sessions, strip_credentials

IDS = "extraction/unique_ids_0.01.parquet"


def upload(s3: S3Server, folder: Path, prefix: str) -> None:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        s3.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


@pytest.fixture
def inputs(tmp_path: Path, s3: S3Server) -> Path:
    """Embeddings and clips, here and in the bucket."""
    for number in range(3):
        rows = slice(20 * number, 20 * number + 20)
        name = f"part-{number}.parquet"
        write_part(tmp_path / "embeddings", near_duplicates()[rows], clip_ids()[rows], name)
    write_clips(tmp_path / "clips", clip_ids())
    upload(s3, tmp_path / "embeddings", "embeddings")
    upload(s3, tmp_path / "clips", "clips")
    return tmp_path


def run(call: Call, source: str, output: str, *more: str) -> Outcome:
    return call(
        *("run", "--input-embeddings-path", f"{source}/embeddings"),
        *("--clips-path", f"{source}/clips", "--output-path", output, "--n-clusters", "6"),
        *("--eps-to-extract", "0.01", "--samples-per-shard", "25", "--dataset", "films", *more),
    )


def artifacts(s3: S3Server, prefix: str) -> dict[str, bytes]:
    """What a run leaves below a prefix, its leases and configuration aside."""
    return {
        name.removeprefix(prefix): s3.get(name)
        for name in s3.names(prefix)
        if ".locks/" not in name and not name.endswith("settings.json")
    }


def ids_of(files: dict[str, bytes]) -> list[tuple[str, str, float]]:
    parts = [data for name, data in sorted(files.items()) if name.startswith(f"/{IDS}/")]
    assert len(parts) == 6
    rows = [row for part in parts for row in pq.read_table(io.BytesIO(part)).to_pylist()]
    return sorted((row["id"], row["max_id"], row["cosine_sim_score"]) for row in rows)


def test_s3_instead_of_a_folder_and_nothing_else_changed(
    call: Call, s3: S3Server, inputs: Path
) -> None:
    remote = run(call, f"s3://{s3.bucket}", s3.url("output"))
    assert remote.code == 0, remote.err
    assert f"dedup-assets ui {s3.url('output')}" in remote.out
    local = run(call, str(inputs), "local")
    assert local.code == 0, local.err
    mixed = run(call, f"s3://{s3.bucket}", "mixed")
    assert mixed.code == 0, mixed.err

    there = artifacts(s3, "output")
    here = {
        f"/{p.relative_to(inputs / 'mixed')}": p.read_bytes()
        for p in (inputs / "mixed").rglob("*")
        if p.is_file() and not {".dagster", ".locks"} & set(p.parts) and p.name != "settings.json"
    }
    assert there.keys() == here.keys()
    different = [name for name in there if there[name] != here[name]]
    # The manifest says where the input lies; nothing else differs with where the output goes.
    assert different == []
    removed = ids_of(there)
    assert removed
    expected = {
        f"/{p.relative_to(inputs / 'local')}": p.read_bytes()
        for p in (inputs / "local" / IDS).iterdir()
    }
    assert removed == ids_of(expected)
    assert summary(inputs / "local", "0.01") == summary(inputs / "mixed", "0.01")

    again = run(call, f"s3://{s3.bucket}", s3.url("output"))
    assert again.code == 0, again.err
    assert "everything was current; nothing was computed again" in again.out
    assert artifacts(s3, "output") == there


def test_faults_that_pass_change_nothing(
    call: Call, s3: S3Server, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup_assets.store.retry._FIRST_WAIT_S", 0.01)
    undisturbed = run(call, f"s3://{s3.bucket}", s3.url("quiet"))
    assert undisturbed.code == 0, undisturbed.err
    with faulty(s3.endpoint) as proxy:
        kinds = ("SlowDown", "InternalError", "reset", "truncated", "lost")
        proxy.faults = [Fault(kind, share=0.04) for kind in kinds]
        flags = ("--input-s3-endpoint-url", proxy.endpoint)
        flags += ("--output-s3-endpoint-url", proxy.endpoint)
        disturbed = run(call, f"s3://{s3.bucket}", s3.url("noisy"), *flags)
        assert disturbed.code == 0, disturbed.err
        assert set(proxy.committed) == set(kinds)
    assert artifacts(s3, "noisy") == artifacts(s3, "quiet")
    assert not s3.client().list_multipart_uploads(Bucket=s3.bucket).get("Uploads")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("quiet/clustering_results/.*PUT?", "could not write it, the store answered 503 SlowDown"),
        ("list-type=2", "could not list it, the store answered 503 SlowDown"),
        ("embeddings/part", "could not read it, the store answered 503 SlowDown"),
    ],
)
def test_a_fault_that_lasts_ends_in_one_line(
    call: Call, s3: S3Server, inputs: Path, path: str, says: str
) -> None:
    with faulty(s3.endpoint) as proxy:
        method = "PUT" if "PUT" in path else "GET"
        proxy.faults = [Fault("SlowDown", method=method, path=path.replace(".*PUT?", ""))]
        flags = ("--input-s3-endpoint-url", proxy.endpoint, "--storage-retries", "1")
        flags += ("--output-s3-endpoint-url", proxy.endpoint)
        outcome = run(call, f"s3://{s3.bucket}", s3.url("quiet"), *flags)
    assert outcome.code == 1
    assert says in outcome.err
    assert f"s3://{s3.bucket}/" in outcome.err
    assert "tried 2 times" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not [n for n in s3.names("quiet") if "extraction" in n or "shards" in n]
    healthy = run(call, f"s3://{s3.bucket}", s3.url("quiet"))
    assert healthy.code == 0, healthy.err


def test_a_listed_file_that_is_gone_is_named(call: Call, s3: S3Server, inputs: Path) -> None:
    with faulty(s3.endpoint) as proxy:
        proxy.faults = [Fault("NoSuchKey", path=r"embeddings/[^?]+\.parquet")]
        flags = ("--input-s3-endpoint-url", proxy.endpoint)
        outcome = run(call, f"s3://{s3.bucket}", s3.url("output"), *flags)
    assert outcome.code == 1
    assert "embeddings: " in outcome.err
    assert ".parquet" in outcome.err
    assert "is gone" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_profiles_of_input_and_output(
    call: Call, s3: S3Server, inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strip_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    credentials = inputs / "credentials"
    credentials.write_text(
        "".join(
            f"[{name}]\naws_access_key_id = key-{name}\naws_secret_access_key = secret-{name}\n"
            for name in ("reader", "writer")
        )
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    forget_sessions()
    none = run(call, f"s3://{s3.bucket}", s3.url("output"))
    assert none.code == 1
    assert "there are no credentials; set AWS_ACCESS_KEY_ID" in none.err
    flags = ("--input-s3-profile-name", "reader", "--output-s3-profile-name")
    absent = run(call, f"s3://{s3.bucket}", s3.url("output"), *flags, "nobody")
    assert absent.code == 1
    assert "nobody" in absent.err
    assert "name a profile of" in absent.err
    assert len(absent.err.strip().splitlines()) == 1
    good = run(call, f"s3://{s3.bucket}", s3.url("output"), *flags, "writer")
    assert good.code == 0, good.err


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("AccessDenied", "not allowed to read it (AccessDenied)"),
        ("ExpiredToken", "the session token of the credentials has expired; get new"),
        ("InvalidAccessKeyId", "the store does not accept the credentials (InvalidAccessKeyId)"),
    ],
)
def test_wrong_credentials_end_in_one_line_without_them(
    call: Call, s3: S3Server, inputs: Path, kind: str, says: str
) -> None:
    with faulty(s3.endpoint) as proxy:
        proxy.faults = [Fault(kind)]
        flags = ("--input-s3-endpoint-url", proxy.endpoint)
        outcome = run(call, f"s3://{s3.bucket}", s3.url("output"), *flags)
    assert outcome.code == 1
    assert f"s3://{s3.bucket}/embeddings: " in outcome.err
    assert says in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert KEY not in outcome.err
    assert SECRET not in outcome.err


def test_no_secret_is_left_anywhere(
    call: Call,
    s3: S3Server,
    inputs: Path,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in what is printed, in an artifact, in ``settings.json`` or in the event log."""
    secrets = [f"{what}-that-nobody-may-see" for what in ("key", "secret", "token")]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", secrets[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets[1])
    monkeypatch.setenv("AWS_SESSION_TOKEN", secrets[2])
    good = run(call, f"s3://{s3.bucket}", s3.url("output"), "--verbose")
    assert good.code == 0, good.err
    assert "session token (from AWS_SESSION_TOKEN), which expires" in good.out
    with faulty(s3.endpoint) as proxy:
        proxy.faults = [Fault("AccessDenied", path="clustering_results")]
        flags = ("--output-s3-endpoint-url", proxy.endpoint, "--verbose")
        bad = run(call, f"s3://{s3.bucket}", s3.url("bad"), *flags)
        assert bad.code == 1
    printed = good.out + good.err + bad.out + bad.err
    stored = b"".join(s3.get(name) for name in s3.names("output") + s3.names("bad"))
    events = b"".join(p.read_bytes() for p in dagster_home.rglob("*") if p.is_file())
    for database in dagster_home.rglob("*.db"):
        with sqlite3.connect(database) as connection:  # what still lies in the write-ahead log
            events += "\n".join(connection.iterdump()).encode()
    assert len(events) > 100_000
    for secret in secrets:
        assert secret not in printed
        assert secret.encode() not in stored
        assert secret.encode() not in events


@pytest.mark.parametrize(
    "arguments",
    [
        [
            *("run", "--input-embeddings-path", "s3://b/in", "--output-path", "out"),
            *("--n-clusters", "2", "--input-s3-endpoint-url"),
        ],
        ["run", "--spec", "s3://b/job.json", "--input-s3-endpoint-url"],
        ["ui", "s3://b/out", "--output-s3-endpoint-url"],
    ],
)
@pytest.mark.parametrize("url", ["http://me:hidden@host:9000", "me:hidden@host:9000"])
def test_endpoint_with_a_password_is_refused_without_showing_it(
    call: Call, arguments: list[str], url: str
) -> None:
    outcome = call(*arguments, url)
    assert outcome.code == 2
    assert "must hold no user name or password" in outcome.err
    assert "hidden" not in outcome.err


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_of_the_environment_with_a_password_is_refused(
    call: Call, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://me:hidden@127.0.0.1:9")
    flags = ("--output-path", "out", "--n-clusters", "2")
    outcome = call("run", "--input-embeddings-path", "s3://b/in", *flags)
    assert outcome.code == 1
    assert f"{variable} must hold no user name or password" in outcome.err
    assert "hidden" not in outcome.out + outcome.err


def test_manifest_names_the_input_by_its_url(call: Call, s3: S3Server, inputs: Path) -> None:
    good = run(call, f"s3://{s3.bucket}", s3.url("output"))
    assert good.code == 0, good.err
    manifest = pq.read_schema(io.BytesIO(s3.get("output/embeddings/manifest.parquet")))
    info = json.loads((manifest.metadata or {})[b"dedup_assets"])
    assert info["input"] == f"s3://{s3.bucket}/embeddings"
