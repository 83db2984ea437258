"""Videos become clips with embeddings once, and what is gone takes its clips with it."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets.demo.writer import open_video
from dedup_assets.engine import Engine, session
from dedup_assets.errors import InputError, SettingsError
from dedup_assets.stages import splitting, videos
from dedup_assets.stages.splitting import split
from dedup_assets.stages.videos import list_videos, refuse_other_clips, write_list
from dedup_assets.store.inputs import InputFiles
from dedup_assets.video import apart
from dedup_assets.video.apart import Splitter
from dedup_assets.video.embed.perceptual import PerceptualEmbedder
from dedup_assets.video.errors import ClipError
from dedup_assets_tests.conftest import bytes_of, write_inputs
from dedup_assets_tests.s3 import S3Server
from dedup_assets_tests.stages.video_folders import LOCAL, Done, Folders, names_to_do, run
from dedup_assets_tests.video.movies import coloured, regular, shown


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_clips_hold_all_frames_and_files_say_what_they_are(folders: Folders):
    path = folders.add("a.mp4", 5)
    assert folders.split() == Done(1, 1, 3, {})
    rows = sorted(folders.rows(), key=lambda row: row["span_start"])
    assert [(row["span_start"], row["span_end"]) for row in rows] == [(0, 2), (2, 4), (4, 5)]
    frames = [number for row in rows for number in shown(folders.out / f"clips/{row['id']}.mp4")[0]]
    assert frames == list(range(50))
    for row in rows:
        name = f"{path}_{row['span_start']}_{row['span_end']}"
        assert row["id"] == str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-6)
        assert (row["width"], row["height"], row["source_video"]) == (64, 48, str(path))
        meta = json.loads((folders.out / f"metas/v0/{row['id']}.json").read_text())
        assert meta["span_uuid"] == row["id"]
        assert meta["duration_span"] == [row["span_start"], row["span_end"]]
        assert meta["clip_location"] == str(folders.out / f"clips/{row['id']}.mp4")
        assert meta["num_frames"] == round(10 * row["duration"])


def test_the_output_is_an_input_with_clips(folders: Folders):
    folders.add("a.mp4", 5)
    folders.split()
    files = InputFiles(str(folders.out), "id", "embedding", ["duration", "width"])
    assert files.clips == f"{folders.out}/clips"
    (name,) = files.names()
    (batch,) = files.read(name, 315)
    assert sorted(batch.ids.to_pylist()) == sorted(row["id"] for row in folders.rows())


def test_what_is_current_stays(folders: Folders):
    folders.add("a.mp4", 4)
    folders.add("below/b.mp4", 3)
    folders.split()
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files_below(folders.out)}
    assert folders.split() == Done(2, 0, 4, {})
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files_below(folders.out)} == before


def test_new_changed_and_gone_videos(folders: Folders):
    gone, changed = folders.add("gone.mp4", 2), folders.add("changed.mp4", 2)
    folders.add("same.mp4", 4)
    folders.split()
    gone.unlink()
    folders.add("changed.mp4", 4)
    os.utime(changed, ns=(1, 1))
    folders.add("new.mp4", 6)
    assert len(names_to_do(folders.common())) == 2
    assert folders.split() == Done(3, 2, 7, {})
    fresh = folders.split(output_clip_path=str(folders.out.parent / "fresh"))
    assert fresh == Done(3, 3, 7, {})
    assert contents(folders.out) == contents(folders.out.parent / "fresh")


def test_another_way_to_split_replaces_what_was_there(folders: Folders):
    folders.add("a.mp4", 4)
    folders.split()
    assert folders.split(fixed_stride_split_duration=1.0) == Done(1, 1, 4, {})
    assert len(list((folders.out / "clips").iterdir())) == 4
    assert folders.split(upload_clips=False) == Done(1, 1, 2, {})
    assert not (folders.out / "clips").exists()


def test_embeddings_of_another_model_go_and_those_of_others_stay(folders: Folders):
    folders.add("a.mp4", 4)
    folders.split()
    earlier, foreign = folders.out / "clip_embd_parquet", folders.out / "ce1_embd_336p_parquet"
    (folders.out / "perceptual_embd_parquet").rename(earlier)
    write_inputs(foreign, ["x"], np.eye(1, 4, dtype=np.float32))
    before = bytes_of(foreign)
    assert folders.split() == Done(1, 0, 2, {})
    assert not earlier.exists()
    assert len(folders.rows()) == 2
    assert bytes_of(foreign) == before


def test_a_damaged_video_is_listed_and_stops_no_other(folders: Folders):
    whole = folders.add("whole.mp4", 2).read_bytes()
    (folders.videos / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folders.videos / "text.mkv").write_text("no video")
    done = folders.split()
    assert (done.videos, done.split, done.clips) == (3, 1, 1)
    listed = pq.read_table(folders.out / "failed_videos.parquet").to_pylist()
    assert {row["source_video"]: row["reason"] for row in listed} == done.failed
    assert {Path(video).name for video in done.failed} == {"cut.mp4", "text.mkv"}
    assert all("\n" not in reason for reason in done.failed.values())
    assert folders.split() == Done(3, 0, 1, done.failed)
    (folders.videos / "cut.mp4").write_bytes(whole)
    (folders.videos / "text.mkv").unlink()
    assert folders.split() == Done(2, 1, 2, {})
    assert not (folders.out / "failed_videos.parquet").exists()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_run_that_was_stopped_goes_on(folders: Folders, monkeypatch: pytest.MonkeyPatch, at: int):
    for number in range(3):
        folders.add(f"{number}.mp4", 2 + number)
    undisturbed = str(folders.out.parent / "undisturbed")
    folders.split(output_clip_path=undisturbed)
    write, written = splitting.write_table, []

    def stopped(*arguments: Any) -> int:
        written.append(arguments[1])
        if len(written) == at + 1:
            raise KeyboardInterrupt
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(splitting, "write_table", stopped)
        with pytest.raises(KeyboardInterrupt):
            folders.split()
    folders.split()
    assert contents(folders.out) == contents(Path(undisturbed))


def test_the_number_of_videos_of_a_run_can_be_limited(folders: Folders):
    for number in range(3):
        folders.add(f"{number}.mp4", 1)
    common = folders.common()
    assert names_to_do(common, 2) == ["0.mp4", "1.mp4"]
    assert run(common, limit=2) == Done(3, 2, 2, {})
    assert run(common, limit=2) == Done(3, 1, 3, {})


def test_what_a_later_run_is_to_replace_stays(folders: Folders):
    for number in range(3):
        folders.add(f"{number}.mp4", 2)
    folders.split()
    common = folders.common(fixed_stride_split_duration=1.0)
    assert run(common, limit=1) == Done(3, 1, 4, {})
    assert len(list((folders.out / "clips").iterdir())) == 4
    assert folders.split(fixed_stride_split_duration=1.0) == Done(3, 2, 6, {})


def test_a_video_that_failed_is_tried_again(folders: Folders, monkeypatch: pytest.MonkeyPatch):
    folders.add("a.mp4", 2)

    def full(*arguments: Any) -> None:
        raise ClipError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Splitter, "split", full)
        url = str(folders.videos / "a.mp4")
        assert folders.split() == Done(1, 0, 0, {url: "the disk is full"})
    assert folders.split() == Done(1, 1, 1, {})
    assert [path.suffix for path in (folders.out / "processed_videos").iterdir()] == [".parquet"]


def test_a_folder_within_or_around_the_last_one_keeps_its_clips(folders: Folders):
    folders.add("a.mp4", 2)
    folders.add("below/b.mp4", 4)
    folders.split()
    narrow = str(folders.videos / "below")
    assert folders.split(video_dir=narrow) == Done(1, 0, 2, {})
    ids = {path.stem for path in (folders.out / "clips").iterdir()}
    assert ids == {row["id"] for row in folders.rows()}
    assert len(ids) == 2
    assert folders.split() == Done(2, 1, 3, {})
    assert len(list((folders.out / "clips").iterdir())) == 3


def test_a_folder_that_moved_has_other_videos(folders: Folders):
    folders.add("a.mp4", 2)
    folders.split()
    moved = folders.videos.rename(folders.videos.with_name("moved"))
    assert folders.split(video_dir=str(moved)) == Done(1, 1, 1, {})
    assert [row["source_video"] for row in folders.rows()] == [str(moved / "a.mp4")]
    assert len(list((folders.out / "clips").iterdir())) == 1


def test_vectors_of_two_models_are_never_in_one_table(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
):
    for number in range(4):
        folders.add(f"{number}.mp4", 2)
    folders.split()
    other = folders.common(embedding_algorithm="another")

    class Other(PerceptualEmbedder):
        def embed(self, prepared: Any) -> Any:
            return -super().embed(prepared)

    monkeypatch.setattr(videos, "output_folder", lambda *_, **__: "other_embd_parquet")
    monkeypatch.setattr(videos, "make_embedder", lambda *_, **__: Other())
    assert run(other, limit=1).clips == 1
    (part,) = (folders.out / "other_embd_parquet").iterdir()
    assert pq.read_table(part).num_rows == 1
    assert len(folders.rows()) >= 3, "what is not replaced yet stays"
    assert run(other).clips == 4
    assert not (folders.out / "perceptual_embd_parquet").exists()


def test_clips_that_show_nothing_are_alike(folders: Folders):
    for name, grey in (("black", 0), ("white", 255)):
        with open_video(
            folders.videos / f"{name}.mp4", fps=10, size=(64, 48), bit_rate=500_000
        ) as write:
            for _ in range(20):
                write(np.full((48, 64, 3), grey, np.uint8))
    folders.split()
    one, two = (np.array(row["embedding"]) for row in folders.rows())
    assert one @ two == pytest.approx(1)


def test_clips_are_deleted_where_they_are_not_to_be_written(folders: Folders):
    folders.add("a.mp4", 2)
    folders.split()
    folders.add("b.mp4", 2)
    assert folders.split(upload_clips=False) == Done(2, 2, 2, {})
    assert not (folders.out / "clips").exists()


def test_a_name_that_is_no_text_is_named(folders: Folders):
    folders.add("a.mp4", 2)
    (folders.videos / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    with pytest.raises(InputError, match="whose name is not UTF-8; rename it"):
        folders.split()


def test_clips_of_another_dataset_are_not_replaced(folders: Folders):
    folders.add("a.mp4", 2)
    common = folders.common(dataset="films")
    write_list(common, list_videos(common))
    refuse_other_clips(common)
    with pytest.raises(SettingsError, match="holds the clips of dataset 'films'"):
        refuse_other_clips(folders.common(dataset="sport"))


def test_no_video_is_an_error(folders: Folders):
    (folders.videos / "notes.txt").write_text("none")
    with pytest.raises(InputError, match="holds no video"):
        folders.split()


def test_s3_on_both_sides(folders: Folders, s3: S3Server):
    path = folders.add("a.mp4", 3)
    s3.put("videos/a.mp4", path.read_bytes())
    common = folders.common(video_dir=s3.url("videos"), output_clip_path=s3.url("out"))
    assert run(common) == Done(1, 1, 2, {})
    names = s3.names("out/")
    assert sum(name.startswith("out/clips/") for name in names) == 2
    assert sum(name.startswith("out/metas/v0/") for name in names) == 2
    meta = json.loads(s3.get(next(name for name in names if "metas" in name)))
    assert meta["source_video"] == s3.url("videos/a.mp4")
    assert run(common) == Done(1, 0, 2, {})
    s3.client().delete_object(Bucket=s3.bucket, Key="videos/a.mp4")
    s3.put("videos/b.mp4", path.read_bytes())
    assert run(common) == Done(1, 1, 2, {})
    assert len(s3.names("out/clips/")) == 2


@pytest.mark.parametrize(("encoder", "memory"), [("libx264", apart.MEMORY), ("h264_nvenc", None)])
def test_an_encoder_on_a_gpu_has_no_limit_of_address_space(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, encoder: str, memory: int | None
):
    """Its driver reserves more than there is memory."""
    seen = []

    def splitter(count: int, *, memory: int | None) -> Splitter:
        seen.append(memory)
        return Splitter(count, memory=memory)

    monkeypatch.setattr(splitting, "Splitter", splitter)
    assert split(folders.common(transcode_encoder=encoder), LOCAL, []) == []
    assert seen == [memory]


@pytest.mark.slow
def test_ray_writes_the_same_files(folders: Folders):
    pytest.importorskip("ray")
    pytest.importorskip("scenedetect")
    for name in ("a.mp4", "b.mp4"):
        regular(folders.videos / name, 200, paint=coloured((100,)))
    (folders.videos / "damaged.mp4").write_bytes(b"no video")
    engine = Engine("ray")
    with session(engine):
        for algorithm, clips in (("fixed_stride", 8), ("content", 4)):
            outputs = [folders.out.parent / f"{algorithm}-{name}" for name in ("local", "ray")]
            here, there = (
                run(folders.common(output_clip_path=str(out), splitting_algorithm=algorithm), e)
                for out, e in zip(outputs, (LOCAL, engine), strict=True)
            )
            assert there == here
            assert (here.videos, here.split, here.clips, len(here.failed)) == (3, 2, clips, 1)
            assert contents(outputs[0]) == contents(outputs[1])


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def contents(folder: Path) -> dict[str, bytes]:
    """All files, with the folder's own path taken out of those that name it."""
    return {
        name: data.replace(str(folder).encode(), b"OUT") for name, data in bytes_of(folder).items()
    }
