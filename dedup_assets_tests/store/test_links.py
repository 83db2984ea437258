"""Links to folders are followed: what lies below one must not silently be left out. Links that
lead out of the clips folder are refused, unless they are allowed."""

import os
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.errors import InputError
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.store.filesystem import Store
from dedup_assets.store.media import MediaFiles
from dedup_assets_tests.conftest import make_settings, run_stages, write_inputs


def test_files_below_a_linked_folder_are_listed_once(tmp_path: Path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "b.parquet").write_bytes(b"b")
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.parquet").write_bytes(b"a")
    (root / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    store = Store(str(root), allow_links=True)
    assert store.list("", ".parquet") == ["a.parquet", "part/deep/b.parquet"]
    assert store.read_bytes("part/deep/b.parquet") == b"b"


def test_a_changed_target_has_another_version(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"one")
    root = tmp_path / "in"
    root.mkdir()
    (root / "x").symlink_to(tmp_path / "x")
    before = Store(str(root), allow_links=True).list_versions("")
    (tmp_path / "x").write_bytes(b"three")
    assert Store(str(root), allow_links=True).list_versions("") != before


def test_the_time_of_a_target_counts_and_not_that_of_its_link(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"one")
    root = tmp_path / "in"
    root.mkdir()
    (root / "x").symlink_to(tmp_path / "x")
    before = Store(str(root), allow_links=True).version("x")
    os.utime(tmp_path / "x", (1, 1))
    assert Store(str(root), allow_links=True).version("x") != before


def test_a_link_to_nothing_is_not_left_out(tmp_path: Path):
    """As where the disk that it leads to is not mounted: its rows would be missing in silence."""
    for target in ("nothing", "loop.parquet"):
        (tmp_path / "loop.parquet").symlink_to(tmp_path / target)
        store = Store(str(tmp_path))
        assert store.list("") == ["loop.parquet"]
        with pytest.raises(OSError, match=r"loop\.parquet"):
            store.open("loop.parquet")
        (tmp_path / "loop.parquet").unlink()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A clips folder beside a secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.mp4").write_bytes(b"secret")
    folder = tmp_path / "clips"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.mp4").write_bytes(b"b")
    return folder


OUTSIDE = {
    "file": ("a.mp4", "../secret/a.mp4"),
    "file in a folder": ("deep/a.mp4", "../../secret/a.mp4"),
    "folder": ("more", "../secret"),
    "absolute": ("a.mp4", "/etc/hostname"),
    "link to a link": ("a.mp4", "../hop"),
    "through a link inside": ("a.mp4", "deep/../../secret/a.mp4"),
    "sibling of a like name": ("more", "../clips-2"),
    "to the folder above": ("more", ".."),
    "to nothing": ("a.mp4", "../secret/none"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_link_out_of_the_clips_folder_is_refused(tmp_path: Path, clips: Path, case: str):
    name, target = OUTSIDE[case]
    (tmp_path / "hop").symlink_to("secret/a.mp4")
    (tmp_path / "clips-2").mkdir()
    (clips / name).symlink_to(target)
    (tmp_path / "to-clips").symlink_to(clips)
    for root in (clips, tmp_path / "to-clips"):
        with pytest.raises(InputError) as caught:
            MediaFiles(str(root))
        real = os.path.realpath(clips / name)
        assert str(caught.value) == (
            f"{root}/{name} leads out of {root}, to {real}; put what it leads to there instead, "
            "or, in a clips folder whose links you trust, set allow_links (--allow-links)"
        )


def test_a_link_out_of_the_clips_folder_may_be_allowed(clips: Path):
    (clips / "more").symlink_to("../secret")
    media = MediaFiles(str(clips), allow_links=True)
    assert media.match(["a"], {})["a"]["mp4"] == "more/a.mp4"
    assert media.store.read_bytes("more/a.mp4") == b"secret"


def test_links_inside_the_clips_folder_are_fine(tmp_path: Path, clips: Path):
    (clips / "c.mp4").symlink_to("deep/b.mp4")
    (clips / "d.mp4").symlink_to(clips / "c.mp4")
    (clips / "again").symlink_to("deep")
    (tmp_path / "to-clips").symlink_to(clips)
    media = MediaFiles(f"{tmp_path}/to-clips")
    assert sorted(media.versions) == ["again/b.mp4", "c.mp4", "d.mp4", "deep/b.mp4"]
    assert media.store.read_bytes("d.mp4") == b"b"


def test_a_link_that_is_put_there_after_the_listing_is_refused(clips: Path):
    media = MediaFiles(str(clips))
    (clips / "deep" / "b.mp4").unlink()
    (clips / "deep" / "b.mp4").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match=r"b\.mp4 leads out of"):
        media.store.read_bytes(media.match(["b"], {})["b"]["mp4"])


@pytest.mark.parametrize("allowed", [False, True])
def test_links_of_clips_are_looked_at_before_anything_is_computed(
    tmp_path: Path, clips: Path, allowed: bool
):
    write_inputs(tmp_path / "in", ["a", "b"], np.eye(2))
    (clips / "a.mp4").symlink_to(tmp_path / "secret" / "a.mp4")
    options = {"clips_path": str(clips), "eps_thresholds": ["0.1"], "allow_links": allowed}
    settings = make_settings(tmp_path, n_clusters=1, **options)
    if allowed:
        assert run_stages(settings).curated["0.1"].index.num_rows == 2
        return
    with pytest.raises(InputError, match=r"a\.mp4 leads out of"):
        list_embeddings(settings, Store(settings.storage.output_path))


@pytest.mark.parametrize("target", ["../secret", "/etc", "x_embd_parquet"])
@pytest.mark.parametrize("allowed", [False, True])
def test_clips_that_are_found_in_the_input_lie_in_it(
    tmp_path: Path, clips: Path, target: str, allowed: bool
):
    """The user has named the folder above, and not what its clips/ links to."""
    split = tmp_path / "split"
    write_inputs(split / "x_embd_parquet", ["a", "b"], np.eye(2))
    (split / "clips").symlink_to(target)
    settings = make_settings(
        tmp_path, n_clusters=1, input_embeddings_path=str(split), allow_links=allowed
    )
    store = Store(settings.storage.output_path)
    if allowed or target == "x_embd_parquet":
        assert list_embeddings(settings, store).clips == f"{split}/clips"
    else:
        with pytest.raises(InputError, match=f"{split}/clips leads out of {split}, to "):
            list_embeddings(settings, store)


def test_links_of_embeddings_are_followed_wherever_they_lead(tmp_path: Path):
    write_inputs(tmp_path / "elsewhere", ["a", "b"], np.eye(2))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "part").symlink_to(tmp_path / "elsewhere")
    settings = make_settings(tmp_path, n_clusters=1)
    assert list_embeddings(settings, Store(settings.storage.output_path)).rows == 2
