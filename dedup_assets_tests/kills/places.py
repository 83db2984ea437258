"""Where inputs and outputs of the kill test lie, on disk or on S3, and how to look at them."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from dedup_assets.demo.writer import open_video
from dedup_assets_tests.command.helpers import clean_environment
from dedup_assets_tests.rows import with_duplicates
from dedup_assets_tests.s3 import KEY, SECRET, S3Server
from dedup_assets_tests.video.movies import regular

HIDDEN = (".dagster/", ".locks/", ".tmp/")
BUCKET = "kills"
CLIP_FILES = 8


@dataclass(frozen=True)
class Found:
    """A file of an output: digest of its bytes, and a text that changes when it is written."""

    sha: str
    written: str


class Place(Protocol):
    """A folder of inputs and outputs."""

    def url(self, name: str) -> str:
        """What the command is given."""

    def environment(self) -> dict[str, str]:
        """What the command needs to reach it."""

    def put(self, folder: Path, name: str) -> None:
        """Copy a folder of files into it."""

    def copy(self, source: str, target: str) -> None:
        """Copy an output, with what Dagster keeps of it."""

    def look(self, output: str) -> dict[str, Found]:
        """All files of an output but the hidden ones."""

    def read(self, name: str) -> bytes:
        """A file, by its name."""

    def write(self, name: str, data: bytes) -> None:
        """Replace a file."""

    def leftovers(self, output: str) -> list[str]:
        """What a killed run must not leave behind for good."""

    def instance(self, output: str) -> Path:
        """The folder of Dagster's instance of an output."""


@dataclass(frozen=True)
class Local:
    """On disk."""

    root: Path

    def url(self, name: str) -> str:
        return str(self.root / name)

    def environment(self) -> dict[str, str]:
        return clean_environment(COLUMNS="1000")

    def put(self, folder: Path, name: str) -> None:
        shutil.copytree(folder, self.root / name)

    def copy(self, source: str, target: str) -> None:
        shutil.copytree(self.root / source, self.root / target)
        rename_in_settings(self, source, target)

    def look(self, output: str) -> dict[str, Found]:
        found = {}
        base = self.root / output
        for path in sorted(base.rglob("*")):
            name = str(path.relative_to(base))
            if path.is_file() and not is_hidden(name):
                data = comparable(name, path.read_bytes(), self.url(output))
                found[name] = Found(digest(data), str(path.stat().st_mtime_ns))
        return found

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def leftovers(self, output: str) -> list[str]:
        base = self.root / output
        hidden = [*base.glob(".*/*new")]
        for folder in (base / ".tmp", base / "split/.tmp"):
            hidden += [folder, *folder.rglob("*")]
        return [str(p.relative_to(base)) for p in hidden if p.exists()]

    def instance(self, output: str) -> Path:
        return self.root / output / ".dagster"


@dataclass(frozen=True)
class Remote:
    """On S3; what Dagster keeps of an output lies below ``root``."""

    root: Path
    server: S3Server

    def url(self, name: str) -> str:
        return self.server.url(name)

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in clean_environment().items() if not k.startswith("AWS_")}
        return {
            **clean,
            "COLUMNS": "1000",
            "XDG_STATE_HOME": str(self.root / "state"),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.server.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, folder: Path, name: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.server.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())

    def copy(self, source: str, target: str) -> None:
        client = self.server.client()
        for name in self.server.names(f"{source}/"):
            new = f"{target}{name.removeprefix(source)}"
            from_ = {"Bucket": self.server.bucket, "Key": name}
            client.copy_object(Bucket=self.server.bucket, Key=new, CopySource=from_)
        rename_in_settings(self, source, target)

    def look(self, output: str) -> dict[str, Found]:
        client = self.server.client()
        pages = client.get_paginator("list_objects_v2")
        found = {}
        for page in pages.paginate(Bucket=self.server.bucket, Prefix=f"{output}/"):
            for entry in page.get("Contents", ()):
                name = entry["Key"].removeprefix(f"{output}/")
                if not is_hidden(name):
                    data = comparable(name, self.server.get(entry["Key"]), self.url(output))
                    found[name] = Found(digest(data), str(entry["LastModified"]))
        return found

    def read(self, name: str) -> bytes:
        return self.server.get(name)

    def write(self, name: str, data: bytes) -> None:
        self.server.put(name, data)

    def leftovers(self, output: str) -> list[str]:
        listed = self.server.client().list_multipart_uploads(
            Bucket=self.server.bucket, Prefix=f"{output}/"
        )
        return [f"an unfinished upload of {u['Key']}" for u in listed.get("Uploads", ())]

    def instance(self, output: str) -> Path:
        (found,) = (self.root / "state" / "dedup-assets").glob(f"{BUCKET}-{output}-????????")
        return found


def rename_in_settings(place: Place, source: str, target: str) -> None:
    """The configuration is the only file that names the output."""
    settings = place.read(f"{target}/settings.json")
    renamed = settings.replace(place.url(source).encode(), place.url(target).encode())
    place.write(f"{target}/settings.json", renamed)


def is_hidden(name: str) -> bool:
    return name.removeprefix("split/").startswith(HIDDEN)


def comparable(name: str, data: bytes, output: str) -> bytes:
    """The bytes of a file, without the one thing that depends on the name of the output."""
    names_it = name == "settings.json" or name.startswith("split/metas/")
    return data.replace(output.encode(), b"OUTPUT") if names_it else data


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def table_rows(data: bytes) -> list[dict[str, Any]]:
    return pq.ParquetFile(io.BytesIO(data)).read().to_pylist()


@contextmanager
def remote(root: Path) -> Iterator[Remote]:
    """A server in a process of its own, with a bucket."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dedup_assets_tests.kills.server"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        server = S3Server(process.stdout.readline().strip(), BUCKET)
        server.client().create_bucket(Bucket=BUCKET)
        yield Remote(root, server)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def make_inputs(place: Place, scratch: Path, name: str, rows: int, dim: int) -> None:
    """Four files of rows with duplicates."""
    from dedup_assets_tests.conftest import write_inputs

    x = with_duplicates(np.random.default_rng(20261121), rows, dim)
    write_inputs(scratch / name, clip_ids(rows), list(x), files=4, nullable=False)
    place.put(scratch / name, name)


def make_clips(place: Place, scratch: Path, rows: int) -> None:
    """A real video file for each id; only a few differ, since encoding takes time."""
    folder = scratch / "clips"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    videos = []
    for number in range(CLIP_FILES):
        frames = rng.integers(0, 255, size=(4, 32, 32, 3), dtype=np.uint8)
        path = scratch / f"{number}.mp4"
        with open_video(path, fps=4, size=(32, 32), bit_rate=20_000) as write:
            for frame in frames:
                write(frame)
        videos.append(path.read_bytes())
    for number, id_ in enumerate(clip_ids(rows)):
        (folder / f"{id_}.mp4").write_bytes(videos[number % CLIP_FILES])
    place.put(folder, "clips")


def make_videos(place: Place, scratch: Path) -> None:
    """Eight videos of two or three seconds."""
    folder = scratch / "videos"
    folder.mkdir()
    for number in range(8):
        regular(folder / f"{number}.mp4", 60 + 4 * number)
    place.put(folder, "videos")


def clip_ids(rows: int) -> list[str]:
    return [f"clip-{i:05d}" for i in range(rows)]
