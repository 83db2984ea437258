"""File groups: what the shuffle reads together. Recorded in the manifest, never cut anew."""

from dataclasses import dataclass
from typing import Any

from dedup_assets.settings import Settings
from dedup_assets.store.fingerprints import DIGEST_LENGTH, digest, fingerprint

GROUP_BYTES = 1 << 30
FRAGMENT_BYTES = 1 << 20
MOST_GROUPS_BYTES = 4  # times the average: the most that a group may grow to by chance

File = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Input files that are shuffled together; one fragment for each of their clusters."""

    name: str
    files: list[File]

    @property
    def rows(self) -> int:
        return sum(file["rows"] for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)


def named_group(columns: list[Any], files: list[File]) -> Group:
    """A group; its name says what its fragments are made from."""
    return Group(fingerprint(columns, [file["fingerprint"] for file in files]), files)


def group_bytes(settings: Settings) -> int:
    """Input bytes of a group, on average; with many clusters more, so that fragments stay large."""
    return max(GROUP_BYTES, settings.clustering.n_clusters * FRAGMENT_BYTES)


def regroup(settings: Settings, files: list[File], before: dict[str, tuple[str, int]]) -> list[int]:
    """The group number of each file.

    A group whose files are all there, unchanged, stays; the other files are cut into new groups.
    Where a cluster would have more fragments than `max_fragments`, small groups are joined.

    Args:
        settings: of the dataset.
        files: sorted by name.
        before: fingerprint and group number of each file of the last manifest, by name.
    """
    now = {file["file"]: file["fingerprint"] for file in files}
    broken = {number for name, (digest, number) in before.items() if now.get(name) != digest}
    kept = [before.get(file["file"], ("", -1))[1] for file in files]
    kept = [-1 if number in broken else number for number in kept]
    groups: dict[int, list[File]] = {}
    for number, file in zip(kept, files, strict=True):
        groups.setdefault(number, []).append(file)
    new = groups.pop(-1, [])
    whole = list(groups.values()) + _split(new, cut_groups(settings, new))
    numbered: dict[str, int] = {}
    for number, members in enumerate(_joined(settings, whole)):
        numbered.update({file["file"]: number for file in members})
    return _compact([numbered[file["file"]] for file in files])


def cut_groups(settings: Settings, files: list[File]) -> list[int]:
    """Group numbers of new files, a function of the sorted files and the configuration alone.

    By default a file begins a group if a hash of its name says so, which makes groups of
    `group_bytes` on average, wherever a file sorts.
    """
    numbers: list[int] = []
    limit = group_bytes(settings)
    count = size = 0
    for file in files:
        if settings.compute.files_per_partition is not None:
            full = count >= settings.compute.files_per_partition
        else:
            draw = int(digest(file["file"].encode()), 16) / 16**DIGEST_LENGTH
            full = draw < file["bytes"] / limit or size + file["bytes"] > MOST_GROUPS_BYTES * limit
        begins = not numbers or full
        numbers.append(0 if not numbers else numbers[-1] + int(begins))
        count, size = (1, file["bytes"]) if begins else (count + 1, size + file["bytes"])
    return numbers


def _joined(settings: Settings, groups: list[list[File]]) -> list[list[File]]:
    """The groups, small ones joined up to half of `group_bytes` if there are too many."""
    if len(groups) <= settings.compute.max_fragments:
        return groups
    half = group_bytes(settings) // 2
    sizes = [sum(file["bytes"] for file in group) for group in groups]
    small = [group for group, size in zip(groups, sizes, strict=True) if size < half]
    large = [group for group, size in zip(groups, sizes, strict=True) if size >= half]
    small.sort(key=lambda group: group[0]["file"])
    joined: list[list[File]] = []
    size = 0
    for group in small:
        more = sum(file["bytes"] for file in group)
        if not joined or size + more > 2 * half:
            joined.append([])
            size = 0
        joined[-1] = sorted([*joined[-1], *group], key=lambda file: file["file"])
        size += more
    return large + joined


def _split(files: list[File], numbers: list[int]) -> list[list[File]]:
    groups: list[list[File]] = [[] for _ in range(max(numbers, default=-1) + 1)]
    for number, file in zip(numbers, files, strict=True):
        groups[number].append(file)
    return groups


def _compact(numbers: list[int]) -> list[int]:
    """The same partition, numbered in the order of the files."""
    first: dict[int, int] = {}
    return [first.setdefault(number, len(first)) for number in numbers]
