"""``dedup-assets verify``: the files of an output compared by content with its ledgers."""

from rich.console import Console

from dedup_assets.command.terminal import show_progress
from dedup_assets.progress import listening
from dedup_assets.settings import Settings
from dedup_assets.stages.documented import verify_documented
from dedup_assets.stages.verify import verify_shards, verify_unique
from dedup_assets.state.lists import listed_eps
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout


def verify_output(settings: Settings, console: Console) -> int:
    """Compare pruning tables, lists and summaries with the ledgers, and shards with their index.

    And see that no id is scored twice.

    Returns:
        0 if all hold, else 1.

    Raises:
        StaleError: the output is not whole, or was made with other settings than it says.
    """
    store = settings.storage.open_output()
    snapshot = Snapshot(settings, store)
    with listening(show_progress(console)):
        verdicts = [verify_documented(snapshot), verify_unique(snapshot)]
        for eps in listed_eps(store):
            if store.exists(layout.shard_index(eps)):
                verdicts.append(verify_shards(snapshot, eps))
    for verdict in verdicts:
        style = None if verdict.passed else "red"
        console.print(verdict.description, style=style, soft_wrap=True, markup=False)
    return 0 if all(verdict.passed for verdict in verdicts) else 1
