"""``python -m dedup_assets_tests``: linters, types, import layers, definitions, then the tests.

With arguments, only the tests: they are passed on to pytest.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
CHECKS = (
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    ["lint-imports"],
    ["dagster", "definitions", "validate", "-w", "workspace.yaml", "--log-level", "warning"],
)
ALL = ("-n", "auto", "--dist", "worksteal", "-q")


def main() -> int:
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}"}
    for command in () if len(sys.argv) > 1 else CHECKS:
        sys.stdout.write(f"$ {' '.join(command)}\n")
        sys.stdout.flush()
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if done.returncode:
            sys.stdout.write(f"{command[0]} failed with exit code {done.returncode}\n")
            return done.returncode
    pytest = [sys.executable, "-m", "pytest", *(sys.argv[1:] or ALL)]
    return subprocess.run(pytest, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
