"""Where the tests' models put the Python files that they bring."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what transformers copies from a model's folder out of the user's cache."""
    dynamic = pytest.importorskip(
        "transformers.dynamic_module_utils", reason="needs the extra embed"
    )
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("modules")
        patch.setattr(dynamic, "HF_MODULES_CACHE", str(folder))
        patch.syspath_prepend(str(folder))
        yield
