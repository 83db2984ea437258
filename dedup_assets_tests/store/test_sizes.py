"""Sizes as people write them."""

import pytest

from dedup_assets.store.sizes import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (123, 123),
        ("123", 123),
        ("123B", 123),
        ("1KiB", 1024),
        ("1KB", 1000),
        ("1K", 1024),
        ("512MiB", 512 << 20),
        ("512mib", 512 << 20),
        ("4GB", 4_000_000_000),
        ("2G", 2 << 30),
        ("1.5GiB", 3 << 29),
        (" 1 TiB ", 1 << 40),
        ("0", 0),
    ],
)
def test_size_is_parsed(text: object, size: int):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "GiB", "-1", "1XB", "1 2", "1e3", True, None, "1,5GB", "KB1", "\u0661MiB", "1\u00b2"],
)
def test_what_is_no_size_is_refused_with_an_example(text: object):
    with pytest.raises(ValueError, match="a size must look like 512MiB or 4GB, got"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (1 << 30, "1.0 GiB"),
        (3 << 39, "1.5 TiB"),
    ],
)
def test_size_is_written_short(size: int, text: str):
    assert format_bytes(size) == text
