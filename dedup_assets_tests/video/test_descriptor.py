"""The built-in descriptor: its parts by hand, what it keeps and what it tells apart."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.demo.clips import clip_path
from dedup_assets.demo.scenes import draw, plan_scene
from dedup_assets.video.descriptor import (
    DIM,
    EMBEDDING_SCHEMA,
    MAX_ROW_GROUP,
    N_SAMPLES,
    describe_clip,
    describe_frames,
    embed_clips,
)
from dedup_assets.video.errors import ClipError
from dedup_assets_tests.demo.small_set import SmallSet

pytestmark = pytest.mark.slow

LAYOUT, EDGES, COLOUR, MOTION = slice(0, 107), slice(107, 235), slice(235, 267), slice(267, 315)


def _frames(index: int) -> np.ndarray:
    """Samples of a scene as drawn."""
    frames = np.stack(list(draw(plan_scene(index, 0))))
    return frames[np.linspace(0, len(frames) - 1, N_SAMPLES).astype(int)]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_shape_and_dtype():
    vector = describe_frames(_frames(0))
    assert DIM == 315
    assert vector.shape == (DIM,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    for block in (LAYOUT, EDGES, COLOUR, MOTION):
        assert 0.9 < np.linalg.norm(vector[block]) <= 1, "blocks weigh the same"


def test_blank_clip_is_finite_and_says_nothing():
    """A fade to one grey has no contrast; noise must not be blown up to a unit vector."""
    vector = describe_frames(np.full((N_SAMPLES, 36, 64, 3), 77, np.uint8))
    assert np.linalg.norm(vector) < 1e-6


def test_still_vertical_wave_is_one_layout_coefficient():
    """cos(pi * 2 * (y + 1/2) / h) is the DCT's own function: time 0, rows 2, columns 0."""
    wave = 128 + 100 * np.cos(np.pi * 2 * (np.arange(64) + 0.5) / 64)
    frames = np.broadcast_to(wave[None, :, None, None], (N_SAMPLES, 64, 64, 3)).astype(np.uint8)
    vector = describe_frames(frames)
    layout = np.concatenate([[0], vector[LAYOUT]]).reshape(3, 6, 6)
    assert layout[0, 2, 0] == pytest.approx(1, abs=1e-3)
    assert np.abs(np.delete(layout.ravel(), 12)).max() < 0.01
    np.testing.assert_allclose(vector[MOTION], 0, atol=1e-6)
    edges = vector[EDGES].reshape(4, 4, 8)
    assert (edges.argmax(axis=2) == 4).all(), "the gradient is vertical: bin 90 / 22.5"


def test_motion_block_says_where_and_when():
    frames = np.full((N_SAMPLES, 64, 64, 3), 100, np.uint8)
    frames[:3:2, :16, :16] = 200  # flickers in the first third, upper left cell
    motion = describe_frames(frames)[MOTION].reshape(3, 4, 4)
    assert motion.argmax() == 0
    assert (np.delete(motion.ravel(), 0) < 0).all()


def test_colour_block_says_which_and_where():
    frames = np.full((N_SAMPLES, 64, 64, 3), 100, np.uint8)
    frames[:, 48:, 48:] = (100, 100, 255)
    blue, red = describe_frames(frames)[COLOUR].reshape(2, 4, 4)
    assert blue.argmax() == 15 and blue[3, 3] > 0.9
    assert red.argmin() == 15
    np.testing.assert_allclose(np.delete(blue.ravel(), 15), 0, atol=1e-6)


def test_size_of_the_picture_does_not_matter():
    frames = _frames(1)
    doubled = frames.repeat(2, axis=1).repeat(2, axis=2)
    assert _cosine(describe_frames(frames), describe_frames(doubled)) > 0.9999


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((N_SAMPLES, 8, 8), np.uint8),
        np.zeros((N_SAMPLES, 8, 8, 4), np.uint8),
        np.zeros((N_SAMPLES, 8, 8, 3), np.float32),
        np.zeros((3, 8, 8, 3), np.uint8),
    ],
)
def test_wrong_frames_are_refused(frames: np.ndarray):
    with pytest.raises(ValueError, match="should be"):
        describe_frames(frames)


def test_reencoding_moves_little_and_unrelated_scenes_are_far(small_set: SmallSet):
    vectors = {
        i: describe_clip(clip_path(small_set.folder, i)) for i in small_set.truth["id"].to_pylist()
    }
    for row in small_set.truth.to_pylist():
        if row["kind"] in ("bitrate", "resolution", "brightness_contrast"):
            assert _cosine(vectors[row["id"]], vectors[row["source_id"]]) > 0.9, row["id"]
    assert _cosine(vectors["scene-000"], vectors["scene-001"]) < 0.7
    assert _cosine(vectors["scene-000"], vectors["scene-002"]) < 0.7


def test_embeddings_are_in_the_input_format_and_do_not_depend_on_workers(
    small_set: SmallSet, tmp_path: Path
):
    progress: list[tuple[int, int]] = []
    n = small_set.truth.num_rows
    embed_clips(
        small_set.folder / "clips",
        tmp_path / "one",
        workers=1,
        rows_per_file=n - 1,
        on_clip=lambda done, total: progress.append((done, total)),
    )
    embed_clips(small_set.folder / "clips", tmp_path / "two", workers=2)
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == ["part-00000.parquet", "part-00001.parquet"]
    tables = [pq.read_table(file) for file in files]
    assert [table.num_rows for table in tables] == [n - 1, 1]
    assert all(table.schema.equals(EMBEDDING_SCHEMA) for table in tables)
    table = pa.concat_tables(tables)
    assert table["id"].to_pylist() == sorted(small_set.truth["id"].to_pylist())
    assert {len(vector) for vector in table["embedding"].to_pylist()} == {DIM}
    assert table.equals(pq.read_table(tmp_path / "two"))
    assert progress == [(done, n) for done in range(1, n + 1)]
    row_group = pq.ParquetFile(files[0]).metadata.row_group(0)
    assert row_group.num_rows <= MAX_ROW_GROUP
    assert not any("DICT" in e for c in range(6) for e in row_group.column(c).encodings)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"], "no scratch is left"


def test_shorter_second_run_leaves_no_stale_part(small_set: SmallSet, tmp_path: Path):
    clips = {i: clip_path(small_set.folder, i) for i in ("scene-000", "scene-001")}
    embed_clips(clips, tmp_path, workers=1, rows_per_file=1)
    (tmp_path / "notes.txt").touch()
    embed_clips({"b/c.d": clips["scene-001"]}, tmp_path, workers=1, rows_per_file=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "part-00000.parquet"]
    assert pq.read_table(tmp_path / "part-00000.parquet")["id"].to_pylist() == ["b/c.d"]


@pytest.mark.parametrize("workers", [1, 2])
def test_corrupt_clip_fails_naming_the_file_and_leaves_the_last_result(
    small_set: SmallSet, tmp_path: Path, workers: int
):
    good, bad = clip_path(small_set.folder, "scene-000"), tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:5000])
    out = tmp_path / "out"
    embed_clips({"a": good}, out, workers=1)
    before = (out / "part-00000.parquet").read_bytes()
    with pytest.raises(ClipError, match=r"bad\.mp4: "):
        embed_clips({"a": good, "b": bad}, out, workers=workers)
    assert (out / "part-00000.parquet").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.mp4", "out"]


def test_wrong_arguments_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least one clip"):
        embed_clips(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="rows_per_file=0 should be >= 1"):
        embed_clips({"a": tmp_path}, tmp_path / "out", rows_per_file=0)
    with pytest.raises(ValueError, match="workers=0 should be >= 1"):
        embed_clips({"a": tmp_path}, tmp_path / "out", workers=0)
