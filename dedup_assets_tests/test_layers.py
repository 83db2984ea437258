"""Where assets are defined, and that heavy imports wait until they are needed.

The layers are a contract in pyproject.toml, which lint-imports checks.
"""

import ast
import subprocess
import sys
from pathlib import Path

import dedup_assets
from dedup_assets_tests.command.helpers import clean_environment

PACKAGE = Path(dedup_assets.__file__).parent

MODULES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The layer's name of a module: the folder below the package, or the module itself."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def python(code: str) -> str:
    """Output of a Python process of its own."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_asset_is_defined_in_the_assets_folder() -> None:
    for path in MODULES:
        if unit(path) == "assets":
            continue
        decorators = [
            ast.unparse(decorator)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for decorator in node.decorator_list
        ]
        found = [d for d in decorators if d.split("(")[0] in ("dg.asset", "asset", "multi_asset")]
        assert not found, f"{path} defines an asset: {found}"


def test_one_asset_in_each_module_of_the_assets_folder() -> None:
    for path in sorted((PACKAGE / "assets").glob("*.py")):
        count = path.read_text().count("@dg.asset(")
        assert count == (0 if path.stem in ("__init__", "common", "work") else 1), path


def test_asset_modules_keep_their_annotations_as_objects() -> None:
    """Dagster reads the annotation of a result; as text it takes it for an output."""
    for path in [*(PACKAGE / "assets").glob("*.py"), PACKAGE / "checks.py"]:
        assert "from __future__ import annotations" not in path.read_text(), path


def test_compute_imports_where_nothing_but_numpy_is_installed() -> None:
    modules = [f"dedup_assets.compute.{p.stem}" for p in (PACKAGE / "compute").glob("[a-z]*.py")]
    assert len(modules) > 5
    blocked = ["dagster", "cupy", "cuml", "polars", "pyarrow", "matplotlib", "fsspec", "pydantic"]
    python(
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        + "\n".join(f"import {module}" for module in modules)
        + "\nimport numpy as np\n"
        "from dedup_assets.compute.pairwise import best_earlier_match\n"
        "best = best_earlier_match(np.eye(3, dtype=np.float32))\n"
        "assert best.index.tolist() == [0, 0, 0]\n"
    )


def test_the_package_itself_does_not_import_dagster() -> None:
    python("import sys, dedup_assets\nassert 'dagster' not in sys.modules\n")


def test_loading_definitions_imports_nothing_heavy() -> None:
    """A code server loads them at every start, and again for every step of a run."""
    loaded = python(
        "import sys, warnings\n"
        "warnings.simplefilter('default')\n"
        "import dedup_assets.definitions as d\n"
        "d.defs().get_repository_def()\n"
        "heavy = ['matplotlib', 'webdataset', 'av', 'cupy', 'torch', 'cuml', 'sklearn']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    assert loaded.strip() == "[]"


def test_help_of_the_command_imports_neither_a_run_nor_what_it_needs() -> None:
    loaded = python(
        "import sys, warnings\n"
        "warnings.simplefilter('default')\n"
        "import contextlib, io\n"
        "from dedup_assets.cli import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['run', '--help'])\n"
        "print([n for n in ('matplotlib', 'webdataset', 'av', 'torch') if n in sys.modules])\n"
    )
    assert loaded.strip() == "[]"
