"""The whole graph over folders of odd names."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.store.zip_writer import pack
from dedup_assets_tests.conftest import make_settings, run_stages, unit, write_inputs

IDS = [f"clip-{i:02d}" for i in range(20)]
NAMES = [
    *("run::2", "{a}[b]*?#50%20", "a\nb\t\x01", "~", "s3:"),
    *(" $HOME `id`;&|<>!'\"\\", "ü{{ 1 }}{#{%"),
]


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_odd_names_are_read_and_written(
    tmp_path: Path, rng: np.random.Generator, name: str
):
    rows = unit(rng.normal(size=(20, 8)))
    rows[10:] = rows[:10]
    write_inputs(tmp_path / "in" / name, IDS, rows, files=2)
    (tmp_path / "clips" / name).mkdir(parents=True)
    for id_ in IDS:
        (tmp_path / "clips" / name / f"{id_}.mp4").write_bytes(id_.encode())
    settings = make_settings(
        tmp_path,
        input_embeddings_path=f"{tmp_path}/in/{name}",
        clips_path=f"{tmp_path}/clips/{name}",
        output_path=f"{tmp_path}/out/{name}",
        n_clusters=2,
        eps_thresholds=["0.1"],
    )
    results = run_stages(settings)
    packed = pack(results.store, f"{tmp_path}/zips/{name}.zip")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]
    assert [p.name for p in (tmp_path / "zips").iterdir()] == [f"{name}.zip"]
    with zipfile.ZipFile(tmp_path / "zips" / f"{name}.zip") as archive:
        assert len(archive.namelist()) == packed.files
    (tar,) = (tmp_path / "out" / name / "shards" / "eps=0.1").glob("*/*.tar")
    with tarfile.open(tar) as archive:
        assert len([n for n in archive.getnames() if n.endswith(".mp4")]) == 10
