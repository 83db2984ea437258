"""The formats that tests screen in."""

import pytest

from dedup_assets.compute import bfloat16

HAS_BFLOAT16 = bfloat16.has_bfloat16()
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 units here")
SCREENS = [
    pytest.param(False, id="float32"),
    pytest.param(True, id="bfloat16", marks=needs_bfloat16),
]
