"""Which files belong to an id."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dedup_assets.errors import InputError
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.members import Members, keys_of_others, sample_key


def media(tmp_path: Path, *names: str) -> MediaFiles:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return MediaFiles(str(tmp_path))


def match(files: MediaFiles, ids: Iterable[Any], others: Iterable[Any] = ()) -> dict[Any, Members]:
    """Match with all ids of the input at hand."""
    return files.match(ids, keys_of_others(pl.Series([str(id_) for id_ in (*ids, *others)])))


def found(files: MediaFiles, *ids: Any, others: tuple[Any, ...] = ()) -> dict[Any, set[str]]:
    """The files of each id."""
    matched = match(files, ids, others)
    return {id_: {name for name in members.values() if name} for id_, members in matched.items()}


def test_files_up_to_the_first_dot_belong_to_the_id(tmp_path: Path):
    names = ("a.mp4", "a.en.txt", "sub/a.json", "ab.mp4", "a", ".a.mp4", "a.")
    members = media(tmp_path, *names).match(["a"], {})["a"]
    assert members == {
        "json": None,
        "mp4": "a.mp4",
        "en.txt": "a.en.txt",
        "source.json": "sub/a.json",
    }


def test_id_with_dots_or_slashes_is_found_by_its_key_only(tmp_path: Path):
    files = media(tmp_path, "a.b.mp4", "a%2Eb.mp4", "x/y.mp4", "x%2Fy.mp4")
    assert found(files, "a.b", "x/y", "a") == {
        "a.b": {"a%2Eb.mp4"},
        "x/y": {"x%2Fy.mp4"},
        "a": {"a.b.mp4"},
    }


def test_id_with_other_marks_is_found_by_key_or_as_it_is(tmp_path: Path):
    files = media(tmp_path, "a b.mp4", "é.mp4", "c%20d.mp4", "a%20b.txt")
    assert found(files, "a b", "é", "c d") == {
        "a b": {"a b.mp4", "a%20b.txt"},
        "é": {"é.mp4"},
        "c d": {"c%20d.mp4"},
    }


def test_long_id_is_found_by_its_short_key_or_as_it_is(tmp_path: Path):
    ids = ["é" * 60, "ü" * 60]
    files = media(tmp_path, f"{ids[0]}.mp4", f"{sample_key(ids[1])}.mp4")
    assert found(files, *ids) == {
        ids[0]: {f"{ids[0]}.mp4"},
        ids[1]: {f"{sample_key(ids[1])}.mp4"},
    }


def test_integer_id_is_found_by_its_digits(tmp_path: Path):
    assert found(media(tmp_path, "17.mp4"), 17, 7) == {17: {"17.mp4"}, 7: set()}


def test_exact_name_wins_over_the_key(tmp_path: Path):
    files = media(tmp_path, "a b.mp4", "a%20b.MP4", "a%20b.txt")
    assert found(files, "a b") == {"a b": {"a b.mp4", "a%20b.txt"}}


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (["a b.mp4", "a%20b.mp4"], {"a b.mp4"}, {"a%20b.mp4"}),
        (["a b.mp4", "a%2520b.mp4"], {"a b.mp4"}, {"a%2520b.mp4"}),
        (["a b.mp4", "a%20b.mp4", "a%20b.txt"], {"a b.mp4"}, {"a%20b.mp4", "a%20b.txt"}),
        (["a b.mp4", "a%20b.mp4", "a%2520b.txt"], {"a b.mp4"}, {"a%20b.mp4", "a%2520b.txt"}),
        (["a b.txt", "a%20b.mp4"], {"a b.txt"}, {"a%20b.mp4"}),
    ],
)
@pytest.mark.parametrize("kept", ["both", "first", "second"])
def test_id_that_is_the_key_of_another_has_its_own_files(
    tmp_path: Path, names: list[str], first: set[str], second: set[str], kept: str
):
    """Which of the two is kept changes nothing: the other one still owns its file."""
    files = media(tmp_path, *names)
    expected = {"a b": first, "a%20b": second}
    if kept == "both":
        assert found(files, "a b", "a%20b") == expected
    else:
        one, other = ("a b", "a%20b") if kept == "first" else ("a%20b", "a b")
        assert found(files, one, others=(other,)) == {one: expected[one]}


@pytest.mark.parametrize("names", [["a%20b.mp4"], ["a%20b.mp4", "a%2520b.mp4"]])
@pytest.mark.parametrize("kept", [["a b", "a%20b"], ["a b"], ["a%20b"]])
def test_file_of_one_id_or_the_other_is_refused_naming_both(
    tmp_path: Path, names: list[str], kept: list[str]
):
    files = media(tmp_path, *names)
    others = {"a b", "a%20b"} - set(kept)
    says = (
        r"^a%20b\.mp4 below .* may belong to id 'a%20b', which is its name, or to id 'a b', whose "
        "key that is; name the files of 'a b' so, or change one of the ids$"
    )
    with pytest.raises(InputError, match=says):
        match(files, kept, others)


def test_file_of_an_id_with_a_dot_or_of_its_key_is_refused(tmp_path: Path):
    files = media(tmp_path, "a%2Eb.mp4", "c.mp4")
    with pytest.raises(InputError, match=r"id 'a%2Eb', .* or to id 'a\.b', .* is; change one of"):
        match(files, ["c", "a.b", "a%2Eb"])


def test_two_files_of_one_name_are_refused_if_their_id_is_kept(tmp_path: Path):
    files = media(tmp_path, "x/a.mp4", "y/a.mp4", "fine.mp4")
    assert found(files, "fine", others=("a",)) == {"fine": {"fine.mp4"}}
    with pytest.raises(InputError, match=r"id 'a' has two media files, x/a\.mp4 and y/a\.mp4"):
        files.match(["a"], {})


def test_folder_that_is_missing_or_empty_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"clips_path .* holds no files; point it at"):
        media(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist; point it at"):
        MediaFiles(str(tmp_path / "nowhere"))
