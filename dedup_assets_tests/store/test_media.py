"""Sample keys, and which files belong to an id."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.errors import InputError
from dedup_assets.store.media import MediaFiles, sample_key


@pytest.mark.parametrize(
    ("id_", "key"),
    [
        ("clip-01_A", "clip-01_A"),
        ("a.mp4", "a%2Emp4"),
        ("a/b", "a%2Fb"),
        ("é", "%C3%A9"),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("~", "%7E"),
        ("..", "%2E%2E"),
        (17, "17"),
        (-17, "-17"),
    ],
)
def test_key_is_the_id_percent_encoded(id_: object, key: str):
    assert sample_key(id_) == key


@given(st.text())
def test_key_is_safe_in_a_tar_and_gives_the_id_back(id_: str):
    key = sample_key(id_)
    assert re.fullmatch(r"[A-Za-z0-9_%-]*", key)
    assert unquote(key) == id_


@given(st.text(alphabet="%2EF./aé"), st.text(alphabet="%2EF./aé"))
def test_different_ids_have_different_keys(a: str, b: str):
    assert (sample_key(a) == sample_key(b)) == (a == b)


def media(tmp_path: Path, *names: str) -> MediaFiles:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return MediaFiles(str(tmp_path))


def test_files_up_to_the_first_dot_belong_to_the_id(tmp_path: Path):
    found = media(tmp_path, "a.mp4", "a.en.txt", "sub/a.json", "ab.mp4", "a", ".a.mp4").of("a")
    assert found == {"mp4": "a.mp4", "en.txt": "a.en.txt", "json": "sub/a.json"}


def test_id_with_dots_or_slashes_is_found_by_its_key_only(tmp_path: Path):
    files = media(tmp_path, "a.b.mp4", "a%2Eb.mp4", "x/y.mp4", "x%2Fy.mp4")
    assert files.of("a.b") == {"mp4": "a%2Eb.mp4"}
    assert files.of("x/y") == {"mp4": "x%2Fy.mp4"}
    assert files.of("a") == {"b.mp4": "a.b.mp4"}


def test_id_with_other_marks_is_found_by_key_or_as_it_is(tmp_path: Path):
    files = media(tmp_path, "a b.mp4", "é.mp4", "c%20d.mp4")
    assert files.of("a b") == {"mp4": "a b.mp4"}
    assert files.of("é") == {"mp4": "é.mp4"}
    assert files.of("c d") == {"mp4": "c%20d.mp4"}


def test_integer_id_is_found_by_its_digits(tmp_path: Path):
    assert media(tmp_path, "17.mp4").of(17) == {"mp4": "17.mp4"}
    assert media(tmp_path).of(7) == {}


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    files = media(tmp_path, "x/a.mp4", "y/a.mp4", "a b.mp4", "a%20b.mp4", "fine.mp4")
    with pytest.raises(InputError, match=r"id 'a' has two media files, x/a\.mp4 and y/a\.mp4"):
        files.of("a")
    with pytest.raises(InputError, match="id 'a b' has two media files"):
        files.of("a b")
    assert files.of("fine")


def test_folder_that_is_missing_or_empty_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"clips_path .* holds no files; point it at"):
        media(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist; point it at"):
        MediaFiles(str(tmp_path / "nowhere"))
