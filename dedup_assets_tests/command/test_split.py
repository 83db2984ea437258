"""``dedup-assets split``: from videos to clips that ``run`` deduplicates."""

from pathlib import Path

import pytest

from dedup_assets.settings.videos import Videos
from dedup_assets_tests.command.helpers import command
from dedup_assets_tests.video.movies import regular

pytestmark = pytest.mark.slow

SPLIT = ("split", "--video-dir", "videos", "--output-clip-path", "clips")

SHORT = ("--fixed-stride-split-duration", "1", "--fixed-stride-min-clip-length-s", "0.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for number, frames in enumerate((90, 45)):
        regular(tmp_path / f"videos/{number}.mp4", frames)
    return tmp_path


def test_what_was_split_is_deduplicated_by_the_command_it_prints(folder: Path):
    made = command(*SPLIT, *SHORT, cwd=folder)
    assert made.returncode == 0, made.stderr
    (line,) = [line for line in made.stdout.splitlines() if line.startswith("go on with:")]
    arguments = line.removeprefix("go on with:  dedup-assets ").split()
    arguments[arguments.index("auto")] = "1"
    ranked = ("--rank-by", "width:desc", "bit_rate:desc", "duration:desc")
    done = command(*arguments, *ranked, "--eps-to-extract", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert list((folder / "out/shards/eps=0").rglob("*.tar"))


def test_a_dry_run_writes_nothing(folder: Path):
    made = command(*SPLIT, "--dry-run", cwd=folder)
    assert made.returncode == 0, made.stderr
    assert "2 videos: 2 to split" in made.stdout
    assert not (folder / "clips").exists()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--fixed-stride-split-duration", "0"), 2, "--fixed-stride-split-duration: input should"),
        (("--fixed-stride-split-duration", "1"), 2, "must not be above"),
        (("--splitting-algorithm", "scenes"), 2, "'fixed_stride'"),
        (("--splitting-algorithm", "transnetv2"), 1, "--splitting-model-dir"),
        (
            ("--splitting-algorithm", "content", "--transnetv2-max-length-s", "2.5"),
            2,
            "no clip would be long enough",
        ),
        (("--limit", "0"), 2, "--limit: must be at least 1"),
        (("--transcode-encoder", "nothing"), 1, "present: libx264"),
        (("--embedding-algorithm", "nothing"), 1, "should be one of perceptual"),
        (("--embedding-algorithm", "transformers"), 1, "--model-dir"),
        (("--video-dir", "absent"), 1, "holds no video"),
        (("--output-clip-path", "videos/clips"), 1, "must not overlap"),
        (("--video-dir", "http://host/videos"), 2, "--video-dir: must be a local path or s3://"),
        (("--task-cpus", "2"), 2, "task_cpus goes with engine ray"),
    ],
)
def test_wrong_arguments_are_one_line(folder: Path, flags: tuple[str, ...], code: int, said: str):
    made = command(*SPLIT, *flags, cwd=folder)
    assert (made.returncode, made.stdout) == (code, "")
    (line,) = made.stderr.splitlines()
    assert said in line
    assert not (folder / "clips").exists()


def test_every_setting_of_videos_has_a_flag(tmp_path: Path):
    said = command("split", "--help", cwd=tmp_path).stdout
    for name in Videos.model_fields:
        assert f"--{name.replace('_', '-')}" in said or f"--no-{name.replace('_', '-')}" in said


def test_run_goes_from_videos_to_shards_and_then_has_nothing_to_do(folder: Path):
    flags = ("--video-dir", "videos", "--output-path", "out", *SHORT, "--eps-to-extract", "0.01")
    plan = ("run", *flags, "--n-clusters", "auto", "--plan")
    before = command(*plan, cwd=folder)
    assert before.returncode == 3, before.stderr
    assert "clips (16 of 16 keys): follows videos" in before.stdout
    assert "centroids: follows clip_embeddings, after which n_clusters is chosen" in before.stdout
    done = command("run", *flags, "--n-clusters", "auto", "--rank-by", "best_quality", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert list((folder / "out/shards/eps=0.01").rglob("*.tar"))
    assert len(list((folder / "out/split/clips").iterdir())) == 5
    after = command(*plan, "--rank-by", "best_quality", cwd=folder)
    assert (after.returncode, after.stderr) == (0, "")
    assert "everything is current" in after.stdout
    moved = (folder / "out").rename(folder / "moved")
    shown = command("scaffold", "moved", cwd=folder)
    assert f"video_dir: {folder / 'videos'}" in shown.stdout
    assert command("verify", str(moved), cwd=folder).returncode == 0


def test_clips_elsewhere_are_an_input_to_who_opens_the_output(folder: Path):
    flags = ("--video-dir", "videos", "--output-clip-path", "clips", "--output-path", "out")
    done = command("run", *flags, *SHORT, "--n-clusters", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    shown = command("scaffold", "out", cwd=folder).stdout
    assert f"input_embeddings_path: {folder / 'clips'}" in shown
    assert "videos:" not in shown
    again = command("run", *flags, *SHORT, "--n-clusters", "1", "--plan", cwd=folder)
    assert again.returncode == 0, again.stdout
    assert command("verify", "out", cwd=folder).returncode == 0
    listed = command("backfill", "out", "--eps", "0.05", cwd=folder)
    assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--input-embeddings-path", "in"), 2, "exclude each other; give one"),
        (("--output-path", "videos/out"), 2, "--output-path"),
        (("--output-clip-path", "videos/clips"), 2, "--output-clip-path"),
        (("--fixed-stride-split-duration", "x"), 2, "--fixed-stride-split-duration"),
        (("--transcode-encoder", "nothing"), 1, "present: libx264"),
        (("--embedding-algorithm", "nothing"), 1, "should be one of perceptual"),
        (("--bucket-by", "colour"), 2, "--bucket-by"),
    ],
)
def test_wrong_arguments_of_a_run_are_one_line(
    folder: Path, flags: tuple[str, ...], code: int, said: str
):
    given = ("run", "--video-dir", "videos", "--n-clusters", "1", *SHORT)
    out = () if "--output-path" in flags else ("--output-path", "out")
    made = command(*given, *out, *flags, cwd=folder)
    assert made.returncode == code
    line = made.stderr.splitlines()[-1]
    assert said in line
    assert len(made.stderr.splitlines()) == 1
