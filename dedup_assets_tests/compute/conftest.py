"""Fixtures of tests that compute."""

from collections.abc import Iterator

import pytest

from dedup_assets.compute import products
from dedup_assets_tests.compute.screens import SCREENS


@pytest.fixture(scope="module", params=SCREENS)
def each_screen(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tests of a module in each format, whichever is quicker here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "bfloat16_is_quicker", lambda: request.param)
        yield
