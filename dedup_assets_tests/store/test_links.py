"""Links to folders are followed: what lies below one must not silently be left out."""

from pathlib import Path

from dedup_assets.store.filesystem import Store


def test_files_below_a_linked_folder_are_listed_once(tmp_path: Path):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "b.parquet").write_bytes(b"b")
    root = tmp_path / "in"
    root.mkdir()
    (root / "a.parquet").write_bytes(b"a")
    (root / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(root)
    store = Store(str(root))
    assert store.list("", ".parquet") == ["a.parquet", "part/deep/b.parquet"]
    assert store.read_bytes("part/deep/b.parquet") == b"b"


def test_a_changed_target_has_another_version(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"one")
    root = tmp_path / "in"
    root.mkdir()
    (root / "x").symlink_to(tmp_path / "x")
    before = Store(str(root)).list_versions("")
    (tmp_path / "x").write_bytes(b"three")
    assert Store(str(root)).list_versions("") != before
