"""The command in a process that kills itself, or waits, at a chosen moment of its work.

``python -m dedup_assets_tests.kills.child run --input-embeddings-path ...`` takes the command's own
arguments. The plan comes in the environment as JSON; what happened goes to a journal, a line each.
A moment is a place in the code where a kill could leave something behind: before, in the middle of
and after a write, a rename, a deletion, a request to S3, a change of the leases, and before a
statement that changes Dagster's database.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

PLAN = "DEDUP_KILLS_PLAN"
START, INSTANCE, SETTINGS, OPENING = "start-up", "instance", "settings.json", "start of the run"
BY_EPS = ("duplicate_ids", "curated_shards")


@dataclass(frozen=True)
class Plan:
    """What the child is to do.

    Attributes:
        journal: file that it writes to.
        phase: what it is at when it stops; see `Moments.enter`.
        kind: of moment; ``number``: which of that kind in that phase, or the end of the phase if
            there are fewer.
        until: None to be killed there; else a file to wait for, and go on.
        part_bytes: of an upload to S3, so that small objects go in parts.
        eps: a partition of the curation job to run instead of the command, with arguments: output.
    """

    journal: str
    phase: str | None = None
    kind: str = ""
    number: int = 0
    until: str | None = None
    part_bytes: int | None = None
    eps: str | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self))


class Moments:
    """Counts the moments of each phase, and stops at the planned one."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._phase = START
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.RLock()
        self._done = plan.phase is None

    def enter(self, phase: str) -> None:
        """Go on to the next phase: an asset, from its lease on to the next one's, or before it."""
        with self._lock:
            if phase == self._phase:
                return
            if self._phase == self._plan.phase:
                self.stop("end", self._phase)
            self._phase = phase
            self.note(phase=phase, at=time.monotonic())

    def due(self, kind: str) -> bool:
        """Count a moment; whether it is the planned one."""
        with self._lock:
            counts = self._counts.setdefault(self._phase, Counter())
            counts[kind] += 1
            plan = (self._plan.phase, self._plan.kind, self._plan.number + 1)
            return (self._phase, kind, counts[kind]) == plan

    def at(self, kind: str, what: object) -> None:
        if self.due(kind):
            self.stop(kind, what)

    def stop(self, kind: str, what: object) -> None:
        if self._done:
            return
        self._done = True
        self.note(stopped=kind, what=str(what), phase=self._phase)
        if self._plan.until is None:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        deadline = time.monotonic() + 120
        while not Path(str(self._plan.until)).exists() and time.monotonic() < deadline:
            time.sleep(0.02)

    def note(self, **entry: Any) -> None:
        with open(self._plan.journal, "a") as journal:  # noqa: PTH123 - Path is watched
            journal.write(json.dumps(entry) + "\n")

    def end(self) -> None:
        self.note(counts=self._counts)


class HalfWritten:
    """A file whose planned write reaches it in half."""

    def __init__(self, file: IO[bytes], name: str, moments: Moments) -> None:
        self._file, self._name, self._moments = file, name, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if self._moments.due("within a write"):
            view = memoryview(data).cast("B")
            self._file.write(view[: len(view) // 2])
            self._file.flush()
            self._moments.stop("within a write", self._name)
            self._file.write(view[len(view) // 2 :])
            return len(view)
        return self._file.write(data)


def watch(plan: Plan) -> Moments:
    """Let the product's own functions say when they are reached."""
    moments = Moments(plan)
    moments.note(phase=START, at=time.monotonic())
    watch_files(moments)

    import sqlalchemy

    from dedup_assets.store import locks, s3
    from dedup_assets.store.filesystem import Store

    write = Store.write

    @contextmanager
    def watched_write(store: Store, name: str) -> Iterator[Any]:
        moments.at("before a write", name)
        with write(store, name) as file:
            yield HalfWritten(file, name, moments)
            moments.at("at the end of a write", name)
        moments.at("after a write", name)

    Store.write = watched_write  # type: ignore[assignment, method-assign]
    around(moments, Store, "delete", "a deletion")
    around(moments, locks, "_change", "a change of the leases")
    if plan.part_bytes is not None:
        s3._PART_BYTES = plan.part_bytes  # type: ignore[attr-defined]
    call = s3.S3Objects._call

    def watched_call(self: Any, doing: str, path: str, method: str, **arguments: Any) -> Any:
        kind = method.replace("_", " ")
        if doing not in ("write", "delete"):
            return call(self, doing, path, method, **arguments)
        moments.at(f"before {kind}", path)
        answer = call(self, doing, path, method, **arguments)
        moments.at(f"after {kind}", path)
        return answer

    s3.S3Objects._call = watched_call  # type: ignore[method-assign]

    @sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
    def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if not text.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            moments.at("a statement of the database", text.split("(")[0].strip())

    watch_phases(moments)
    return moments


def watch_files(moments: Moments) -> None:
    around(moments, Path, "replace", "a rename")
    write_text = Path.write_text

    def half_text(path: Path, data: str, *options: Any, **more: Any) -> int:
        if moments.due("within a text"):
            write_text(path, data[: len(data) // 2], *options, **more)
            moments.stop("within a text", path)
        return write_text(path, data, *options, **more)

    Path.write_text = half_text  # type: ignore[method-assign]


def watch_phases(moments: Moments) -> None:
    import dedup_assets.assets  # all modules of assets, which have the stages by name
    from dedup_assets.assets import common
    from dedup_assets.command import run

    def watched(stage: Any) -> Any:
        @contextmanager
        def watched_stage(context: Any, settings: Any) -> Iterator[Any]:
            name = context.asset_key.path[-1]
            moments.enter(f"{name} {context.partition_key}" if name in BY_EPS else name)
            with stage(context, settings) as found:
                yield found

        return watched_stage

    for stage in ("stage", "video_stage"):
        replaced = watched(getattr(common, stage))
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{dedup_assets.assets.__name__}.") and hasattr(module, stage):
                setattr(module, stage, replaced)
    for function, phase in (
        ("use_instance", INSTANCE),
        ("write_settings", SETTINGS),
        ("open_instance", OPENING),
    ):
        setattr(run, function, entering(moments, phase, getattr(run, function)))


def entering(moments: Moments, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def entered(*arguments: Any) -> Any:
        moments.enter(phase)
        return function(*arguments)

    return entered


def around(moments: Moments, owner: Any, name: str, kind: str) -> None:
    """Moments before and after each call of a function."""
    function = getattr(owner, name)

    def watched(*arguments: Any, **more: Any) -> Any:
        what = " to ".join(str(a) for a in arguments[:2] if isinstance(a, str | Path))
        moments.at(f"before {kind}", what)
        answer = function(*arguments, **more)
        moments.at(f"after {kind}", what)
        return answer

    setattr(owner, name, watched)


def curate(output: str, eps: str) -> int:
    """Run the curation job for one eps as Dagster launches it, on the instance of an output."""
    from dedup_assets.command.instance import open_instance, use_instance
    from dedup_assets.command.settings_file import load_settings
    from dedup_assets.component import build_definitions
    from dedup_assets.partitions import eps_partitions_name
    from dedup_assets.runs import curation_job_name

    settings = load_settings(output)
    use_instance(output)
    with open_instance() as instance:
        instance.add_dynamic_partitions(eps_partitions_name(settings), [eps])
        job = build_definitions(settings).resolve_job_def(curation_job_name(settings))
        result = job.execute_in_process(instance=instance, partition_key=eps, raise_on_error=False)
    return 0 if result.success else 1


def main() -> int:
    plan = Plan(**json.loads(os.environ[PLAN]))
    moments = watch(plan)
    if plan.eps is not None:
        return curate(sys.argv[1], plan.eps)
    from dedup_assets.cli import main as command

    code = command(sys.argv[1:])
    moments.enter("end")
    moments.end()
    return code


if __name__ == "__main__":
    sys.exit(main())
