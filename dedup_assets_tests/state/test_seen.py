"""A ledger is read again when its file changed, and only then."""

from pathlib import Path

from dedup_assets.state.seen import read_seen
from dedup_assets.store.filesystem import Store


class Reader:
    """Reads ledgers of text, and remembers which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, store: Store, key: str) -> bytes | None:
        self.read.append(key)
        try:
            return store.read_bytes(f"ledgers/{key}")
        except FileNotFoundError:
            return None

    def of(self, store: Store, *keys: str) -> list[bytes | None]:
        return list(read_seen(store, "ledgers", "ledgers/{}".format, self, keys).values())


def test_what_did_not_change_is_read_once(tmp_path: Path):
    store, reader = Store(str(tmp_path)), Reader()
    store.write_bytes("ledgers/a", b"1")
    store.write_bytes("ledgers/b", b"2")
    assert reader.of(store, "b", "a", "c") == [b"2", b"1", None]
    assert reader.of(Store(str(tmp_path)), "a", "b") == [b"1", b"2"]
    assert reader.read == ["b", "a"]


def test_what_changed_or_went_is_not_taken_for_what_it_was(tmp_path: Path):
    store, reader = Store(str(tmp_path)), Reader()
    for name in "abc":
        store.write_bytes(f"ledgers/{name}", name.encode())
    reader.of(store, "a", "b", "c")
    store.write_bytes("ledgers/a", b"longer")
    store.delete("ledgers/b")
    assert reader.of(store, "a", "b", "c") == [b"longer", None, b"c"]
    assert reader.read == ["a", "b", "c", "a"]


def test_outputs_do_not_see_the_ledgers_of_others(tmp_path: Path):
    reader = Reader()
    for name in ("one", "two"):
        Store(str(tmp_path / name)).write_bytes("ledgers/a", name.encode())
    assert [reader.of(Store(str(tmp_path / n)), "a") for n in ("one", "two")] == [
        [b"one"],
        [b"two"],
    ]


def test_what_is_replaced_while_it_is_read_is_read_again(tmp_path: Path):
    store = Store(str(tmp_path))
    store.write_bytes("ledgers/a", b"old")

    class Replaced(Reader):
        def __call__(self, store: Store, key: str) -> bytes | None:
            found = super().__call__(store, key)
            if len(self.read) == 1:
                store.write_bytes("ledgers/a", b"newer")
            return found

    reader = Replaced()
    assert reader.of(store, "a") == [b"old"]
    assert reader.of(store, "a") == [b"newer"]
