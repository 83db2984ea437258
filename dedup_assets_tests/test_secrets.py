"""Secrets in the storage options of a ``defs.yaml``: Dagster stores much text, and none of them."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value

from dedup_assets.settings import grouped
from dedup_assets_tests.assets.helpers import (
    INSTANCE_YAML,
    clip_ids,
    near_duplicates,
    write_clips,
    write_part,
)
from dedup_assets_tests.command.helpers import ROOT, clean_environment
from dedup_assets_tests.faults import Fault, faulty
from dedup_assets_tests.s3 import S3Server

SECRETS = {
    "FILMS_KEY": "AKIAENVIRONMENTKEY00",
    "FILMS_SECRET": "from/the/environment+and+never+shown/0123",
    "FILMS_TOKEN": "FwoGZXIvYXdzEnvironmentToken==",
}
WRITTEN = {
    "key": "AKIAWRITTENINTOYAML0",
    "secret": "written/into/the/yaml+and+never+shown/012",
    "token": "FwoGZXIvYXdzWrittenIntoYaml==",
}
JOBS = "films_scoring", "films_curation"

pytestmark = [
    pytest.mark.slow,
    # What Dagster calls itself, to describe a repository.
    pytest.mark.filterwarnings("ignore:Parameter `execution_type` of function"),
    pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`"),
]


def write_project(folder: Path, s3: S3Server, endpoint: str) -> None:
    """Input by secrets of the environment, output by secrets that stand in the YAML."""
    options = {name.rpartition("_")[2].lower(): f"{{{{ env.{name} }}}}" for name in SECRETS}
    attributes = {
        "dataset": "films",
        "input_embeddings_path": s3.url("in"),
        "clips_path": s3.url("clips"),
        "output_path": s3.url("out"),
        "n_clusters": 4,
        "eps_to_extract": 0.01,
        "storage_retries": 0,
        "input_storage_options": {**options, "endpoint_url": s3.endpoint},
        "output_storage_options": {**WRITTEN, "client_kwargs": {"endpoint_url": endpoint}},
    }
    (folder / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\n'
        'root_module = "films"\ncode_location_name = "films"\n'
    )
    for package in (folder / "films", folder / "films/defs", folder / "films/defs/films"):
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
    document = {"type": "dedup_assets.SemanticDedup", "attributes": grouped(attributes)}
    (folder / "films/defs/films/defs.yaml").write_text(yaml.safe_dump(document))
    (folder / "films/definitions.py").write_text(
        "from pathlib import Path\nimport dagster as dg\n"
        "defs = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )


def execute(
    folder: Path, home: Path, job: str, tags: dict[str, str], executor: str = "in_process"
) -> str:
    """What a job of the project prints, run by Dagster's own command in a process of its own."""
    config = folder / "executor.yaml"
    config.write_text(yaml.safe_dump({"execution": {"config": {executor: {}}}}))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "job", "execute", "-m", "films.definitions"),
            *("-a", "defs", "-j", job, "--tags", json.dumps(tags)),
            *("--config", str(config)),
        ],
        cwd=folder,
        env=clean_environment(DAGSTER_HOME=str(home), PYTHONPATH=f"{folder}:{ROOT}", **SECRETS),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


def stored(home: Path) -> Iterator[str]:
    """Each file below Dagster's home as text, databases row by row too."""
    for path in home.rglob("*"):
        if path.is_file():
            yield path.read_bytes().decode("latin-1")
    for path in home.rglob("*.db"):
        with sqlite3.connect(path) as connection:
            yield "\n".join(connection.iterdump())


def test_no_secret_of_the_yaml_is_stored_or_printed(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Databases, event and compute logs, run configuration, snapshots, the output, what is said."""
    s3.put("in/part.parquet", write_part(tmp_path / "rows", near_duplicates()).read_bytes())
    write_clips(tmp_path / "clips", clip_ids())
    for clip in (tmp_path / "clips").iterdir():
        s3.put(f"clips/{clip.name}", clip.read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(INSTANCE_YAML)
    ranges = {"dagster/asset_partition_range_start": "0", "dagster/asset_partition_range_end": "3"}
    with faulty(s3.endpoint) as proxy:
        write_project(tmp_path, s3, proxy.endpoint)
        for name, value in SECRETS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(tmp_path)
        definitions = dg.load_from_defs_folder(path_within_project=tmp_path / "films")
        repository = definitions.get_repository_def()
        snapshot = serialize_value(RepositorySnap.from_def(repository))
        good = execute(tmp_path, home, JOBS[0], ranges, "multiprocess")
        assert "RUN_SUCCESS" in good, good
        good += execute(tmp_path, home, JOBS[1], {"dagster/partition": "0.01"})
        assert good.count("RUN_SUCCESS") == 2, good
        printed = [good]
        for kind in ("AccessDenied", "reset"):
            proxy.faults = [Fault(kind)]
            bad = execute(tmp_path, home, JOBS[0], ranges)
            assert "RUN_FAILURE" in bad
            printed.append(bad)
    texts = [snapshot, *printed, *stored(home)]
    texts += [s3.get(name).decode("latin-1") for name in s3.names("out")]
    assert sum(map(len, texts)) > 1_000_000
    assert any("cluster_partitions" in text for text in stored(home))
    for secret in (*SECRETS.values(), *WRITTEN.values()):
        for text in texts:
            place = text.find(secret)
            assert place < 0, text[max(0, place - 300) : place + 100]
