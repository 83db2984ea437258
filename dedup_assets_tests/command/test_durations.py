"""Times as people write them."""

import pytest

from dedup_assets.command.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5s", 0.5),
        ("10m", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m 10s", 5410),
        (" 10 M ", 600),
    ],
)
def test_time_is_parsed(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "m", "10x", "-5", "0", "0m", "ten", "1e3", "1:30", "10 5", "inf", "nan", "5mm", "\u0669s"],
)
def test_what_is_no_time_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match="a time must look like 10m, 90s or 2h, got"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (99, "99 s"),
        (100, "1.7 min"),
        (600, "10 min"),
        (5400, "90 min"),
        (7200, "2.0 h"),
        (86400 * 5, "5.0 d"),
        (86400 * 5000, "5,000 d"),
    ],
)
def test_time_is_written_short(seconds: float, text: str):
    assert format_duration(seconds) == text
