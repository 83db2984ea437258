"""Which format products are computed in."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from dedup_assets.compute import bfloat16, products
from dedup_assets.compute.kmeans import fit
from dedup_assets.compute.products import BFloat16, Float32, fit_format, screen_format
from dedup_assets_tests.compute.screens import needs_bfloat16
from dedup_assets_tests.conftest import unit


@pytest.fixture(autouse=True)
def _measured_anew() -> Iterator[None]:
    products.bfloat16_is_quicker.cache_clear()
    yield
    products.bfloat16_is_quicker.cache_clear()


def of_kind(monkeypatch: pytest.MonkeyPatch, *units: str) -> None:
    monkeypatch.setattr(bfloat16, "_has_one_of", lambda asked: not set(units).isdisjoint(asked))


def slowed(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    real = getattr(owner, name)

    def slow(*arguments: object) -> object:
        time.sleep(0.02)
        return real(*arguments)

    monkeypatch.setattr(owner, name, slow)


@needs_bfloat16
def test_screen_is_the_format_that_was_quicker(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        slowed(patch, bfloat16, "multiply")
        assert isinstance(screen_format(np), Float32)
    products.bfloat16_is_quicker.cache_clear()
    slowed(monkeypatch, products._Float32Right, "product")
    assert isinstance(screen_format(np), BFloat16)


@needs_bfloat16
def test_formats_are_timed_once_a_process(monkeypatch: pytest.MonkeyPatch):
    first = screen_format(np)
    monkeypatch.setattr(bfloat16, "multiply", None)
    assert type(screen_format(np)) is type(first)


def test_processor_without_units_is_not_asked_to_try(monkeypatch: pytest.MonkeyPatch):
    of_kind(monkeypatch)
    monkeypatch.setattr(bfloat16, "_numkong", None)
    assert isinstance(screen_format(np), Float32)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ((), Float32),
        (("haswell", "skylake"), Float32),
        (("genoa",), BFloat16),
        (("genoa", "sapphire"), Float32),
        (("genoa", "sapphire", "sapphireamx"), BFloat16),
        (("neonbfdot",), BFloat16),
    ],
)
def test_fit_goes_by_the_kind_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, units: tuple[str, ...], expected: type
):
    of_kind(monkeypatch, *units)
    assert isinstance(fit_format(np), expected)
    assert isinstance(fit_format(np, narrow=False), Float32)


def test_fit_does_not_depend_on_a_measurement(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    x = unit(rng.normal(size=(300, 16)))
    found = []
    for quicker in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(products, "bfloat16_is_quicker", lambda quicker=quicker: quicker)
            found.append(fit(x, 7, seed=1, max_iter=5, tol=0.0).centroids)
    np.testing.assert_array_equal(*found)
