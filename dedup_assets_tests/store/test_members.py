"""Sample keys, and the names of the members of a sample."""

import hashlib
import re
from urllib.parse import unquote

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.errors import InputError
from dedup_assets.store.members import MOST_BYTES, members, refuse_shared_keys, sample_key

SHORT = st.text(max_size=16)  # at most 12 bytes of a key for each character


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
        ("y" * 200, "y" * 200),
        ("é" * 33 + "ab", "%C3%A9" * 33 + "ab"),
    ],
)
def test_key_is_the_id_percent_encoded(id_: object, key: str):
    assert sample_key(id_) == key


@pytest.mark.parametrize("id_", ["y" * 201, "é" * 60, "é" * 34, "/" * 5000])
def test_long_key_is_cut_and_ends_in_a_digest_of_the_id(id_: str):
    """A file name may have 255 bytes, and an extension needs some of them."""
    key = sample_key(id_)
    encoded = "".join(f"%{byte:02X}" if byte != ord("y") else "y" for byte in id_.encode())
    digest = hashlib.sha256(id_.encode()).hexdigest()[:32]
    assert key == f"{encoded[:160]}-{digest}"
    assert len(key) == 193


@given(SHORT)
def test_short_key_is_safe_in_a_tar_and_gives_the_id_back(id_: str):
    key = sample_key(id_)
    assert re.fullmatch(r"[A-Za-z0-9_%-]*", key)
    assert unquote(key) == id_


@given(st.text(alphabet="%2EF./aé"), st.text(alphabet="%2EF./aé"))
def test_different_ids_have_different_keys(a: str, b: str):
    assert (sample_key(a) == sample_key(b)) == (a == b)


def test_ids_that_share_a_key_are_refused_naming_both():
    long = "y" * 300
    other = sample_key(long)
    assert sample_key(other) == other
    says = r"^ids 'y+\.\.\. .* and 'y+\.\.\. .* have one sample key"
    with pytest.raises(InputError, match=says):
        refuse_shared_keys(pl.Series(["a", long, "b", other]))
    refuse_shared_keys(pl.Series(["a", long, "y" * 301, "b", "y" * 193]))


def test_members_are_our_json_and_the_files_by_extension():
    files = ["x/a.mp4", "a.en.txt", "y/a.json"]
    found = members("a", files, "clips")
    assert found == {
        "json": None,
        "mp4": "x/a.mp4",
        "en.txt": "a.en.txt",
        "source.json": "y/a.json",
    }
    assert members("a", ["a.JSON"], "clips") == {"json": None, "source.JSON": "a.JSON"}
    assert members("a", [], "clips") == {"json": None}


@pytest.mark.parametrize(
    ("first", "second", "note"),
    [
        ("a.mp4", "a.MP4", "readers ignore the case of extensions"),
        ("a.En.txt", "a.en.Txt", "readers ignore the case of extensions"),
        ("a.json", "a.JSON", "readers ignore the case of extensions"),
        ("a.json", "a.source.json", r"a clip's \.json becomes \.source\.json beside ours"),
        ("a.Source.JSON", "x/a.json", r"a clip's \.json becomes \.source\.json beside ours"),
        ("x/a.mp4", "y/a.mp4", ""),
    ],
)
def test_files_that_would_be_one_member_are_refused_naming_both(first: str, second: str, note: str):
    says = f"^id 'a' has two media files, {first} and {second}, below clips .*{note}.*; leave one"
    with pytest.raises(InputError, match=says):
        members("a", [first, "a.txt", second], "clips")


@pytest.mark.parametrize(
    ("id_", "file", "why"),
    [
        ("a", "a.__key__", "webdataset keeps the name __key__ for itself"),
        ("a", "a.__URL__", "webdataset keeps the name __url__ for itself"),
        ("a", "a.__local_path__", "for itself"),
        ("a", "a.__bad__", "for itself"),
        ("a", "a.__", "for itself"),
        ("a", "a.__x.mp4__", "for itself"),
        ("__a", "__a.mp4__", "webdataset skips names that begin and end with two underscores"),
        ("a", "a.", "it has no extension"),
        ("", ".mp4", "the id is empty"),
        ("a", "a...mp4", "two dots in a row"),
        ("a", "a.m\np4", "control character"),
        ("a", "a.\x7f", "control character"),
        ("a", "a.\udcff", "not UTF-8"),
        ("a", f"a.{'x' * 254}", "longer than 255 bytes"),
        ("é" * 60, f"{'é' * 60}.{'ü' * 31}", "longer than 255 bytes"),
    ],
)
def test_file_that_cannot_be_a_member_is_refused(id_: str, file: str, why: str):
    with pytest.raises(InputError, match=why) as caught:
        members(id_, [file], "clips")
    text = str(caught.value)
    assert len(text) < 500
    assert text.isprintable()
    assert "rename it" in text


def test_names_that_only_look_odd_are_members():
    names = ["_x", "__x", "x__", "__x.mp4", "mp4 ", "m%70", "ü", "key", "url"]
    found = members("a__", [f"a__.{name}" for name in names], "clips")
    assert list(found) == ["json", *names]


def test_longest_key_has_room_for_extensions():
    id_ = "y" * 200
    extension = "x" * (MOST_BYTES - 201)
    assert extension in members(id_, [f"{id_}.{extension}"], "clips")
