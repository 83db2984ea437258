"""What the product promises about its artifacts, checked on the artifacts themselves."""

import itertools
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.thresholds import score_threshold
from dedup_assets.errors import InputError, listed, shown
from dedup_assets.progress import track
from dedup_assets.stages.duplicates import (
    current_lists,
    is_removed,
    lost_lists,
    read_summary,
    require_duplicates,
)
from dedup_assets.state.commits import count_rejected
from dedup_assets.state.scores import read_scores, score_frame
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import column_to_vectors
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.ids import find_repeated, hashes_of, repeated_hashes
from dedup_assets.store.members import JSON, members, sample_key, stem_of
from dedup_assets.store.tables import read_table, to_frame

SAMPLE = 200
SAMPLED_CLUSTERS = 6


@dataclass(frozen=True)
class Verdict:
    """Result of one check: whether it holds, a sentence, and the numbers."""

    passed: bool
    description: str
    numbers: dict[str, int | float]


def verify_conservation(snapshot: Snapshot, eps: str) -> Verdict:
    """kept + removed + rejected = input rows, and the list of each cluster is whole.

    Counted from ledgers: a list is not opened, and whole if it has the bytes that its ledger says.
    """
    store, manifest = snapshot.store, snapshot.manifest
    lists = current_lists(snapshot, eps)
    scored = sum(ledger.rows for ledger in snapshot.ledgers.values())
    removed = sum(count for _, count, _ in lists.parts.values())
    lost = lost_lists(store, eps, lists)
    rejected = count_rejected(store, snapshot.groups)
    expected = {
        "kept": scored - removed,
        "removed": removed,
        "total": scored,
        "rejected": rejected,
    }
    summary = read_summary(store, eps) or {}
    same = all(summary.get(name) == value for name, value in expected.items())
    whole = scored + rejected == manifest.rows
    text = (
        f"kept {scored - removed} + removed {removed} + rejected {rejected} "
        f"{'=' if whole else 'is not'} {manifest.rows} input rows"
    )
    if not same:
        text += f"; the summary says otherwise: {summary}"
    if lost:
        text += f"; {lost} of the lists are missing or cut"
    if not (whole and same) or lost:
        text += f"; materialize duplicate_ids at eps {eps} again"
    numbers: dict[str, int | float] = {**expected, "input": manifest.rows}
    return Verdict(whole and same and not lost, text, numbers)


def verify_removed(snapshot: Snapshot, eps: str) -> Verdict:
    """Each sampled removed id has its match in the same cluster, at the similarity it states.

    The similarity is recomputed from the stored vectors by another route than the one that made
    it, so it may differ in the last digit of float32. The sample lies in a few clusters: what it
    opens does not grow with their number.
    """
    store, manifest = snapshot.store, snapshot.manifest
    lists = current_lists(snapshot, eps)
    counts = {cluster: count for cluster, (_, count, _) in lists.parts.items()}
    drawn = _draw_removed(counts, np.random.default_rng(snapshot.settings.clustering.random_state))
    sampled = sum(len(rows) for rows in drawn.values())
    fragments = snapshot.fragments()
    wrong, where = 0, []
    with track("checking pairs", sampled, "pairs") as advance:
        for number, rows in drawn.items():
            name = layout.unique_ids_part(eps, number)
            pairs, strangers = _stated_pairs(store, number, name, rows)
            columns = [schemas.ID, schemas.EMBEDDING]
            tables = [
                read_table(store, layout.fragment(number, f["fragment"]), columns)
                for f in fragments[number]
            ]
            ids = _wrong_pairs(pairs, pa.concat_tables(tables), manifest.dim, eps)
            wrong += strangers + len(ids)
            where += [f"id {shown(ids[0])} of {name}"] if ids else [name] if strangers else []
            advance(len(rows))
    text = f"{sampled - wrong} of {sampled} sampled removals match as stated"
    if wrong:
        text += f"; not {listed(where)}: run dedup-assets verify, or materialize again"
    return Verdict(
        wrong == 0,
        text,
        {"removed": sum(counts.values()), "sampled": sampled, "wrong": wrong},
    )


def _draw_removed(counts: dict[int, int], rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Up to `SAMPLE` removed rows by cluster, in `SAMPLED_CLUSTERS` drawn by how much they lose."""
    clusters = np.array([cluster for cluster, count in counts.items() if count], dtype=np.int64)
    sizes = np.array([counts[cluster] for cluster in clusters.tolist()], dtype=np.int64)
    if len(clusters) > SAMPLED_CLUSTERS:
        share = sizes / sizes.sum()
        chosen = np.sort(rng.choice(len(clusters), SAMPLED_CLUSTERS, replace=False, p=share))
        clusters, sizes = clusters[chosen], sizes[chosen]
    total = int(sizes.sum())
    drawn = np.sort(rng.choice(total, min(SAMPLE, total), replace=False))
    ends = sizes.cumsum()
    owner = np.searchsorted(ends, drawn, side="right")
    return {
        int(clusters[place]): drawn[owner == place] - (ends[place] - sizes[place])
        for place in np.unique(owner).tolist()
    }


def verify_unique(snapshot: Snapshot) -> Verdict:
    """No id is scored twice, in one cluster or in two.

    Told by what was scored alone: neither the input nor its hashes are read.
    """
    store, ledgers = snapshot.store, snapshot.ledgers

    def read_ids(key: str) -> Iterator[pa.ChunkedArray]:
        yield read_scores(store, ledgers[key], [schemas.ID])[schemas.ID]

    def hashes() -> Iterator[np.ndarray]:
        for key in ledgers:
            yield from hashes_of(read_ids, key)

    rows = sum(ledger.rows for ledger in ledgers.values())
    budget = snapshot.settings.compute.memory_budget
    repeated, places = find_repeated(
        read_ids, ledgers, repeated_hashes(hashes, rows, tuple, budget)
    )
    text = f"{rows} rows were scored, each with an id of its own"
    if repeated:
        id_, keys = next(iter(places.items()))
        text = (
            f"{repeated} ids are scored more than once, such as {shown(id_)} in the clusters of "
            f"{listed(dict.fromkeys(keys))}; this output is damaged: make another, in an empty "
            "folder"
        )
    return Verdict(not repeated, text, {"rows": rows, "repeated": repeated})


def verify_shards(snapshot: Snapshot, eps: str) -> Verdict:
    """The index names each kept id once, and each shard holds the samples that it names."""
    store = snapshot.store
    require_duplicates(snapshot, eps)
    index = to_frame(read_table(store, layout.shard_index(eps)))
    named = index.select(schemas.ID)
    if store.exists(layout.missing_media(eps)):
        missing = to_frame(read_table(store, layout.missing_media(eps)))
        named = pl.concat([named, missing.select(schemas.ID)])
    ledgers = snapshot.ledgers.values()
    ids = pl.concat(
        score_frame(store, ledger).filter(~is_removed(eps)).select(schemas.ID) for ledger in ledgers
    )
    kept = ids.height
    absent = ids.join(named, on=schemas.ID, how="anti")
    lacking = absent.height
    surplus = named.height - (kept - lacking)
    wrong = []
    with track("checking shards", len(index), "clips") as advance:
        for shard, samples in _samples_by_shard(index):
            if not _shard_holds(store, eps, shard, samples):
                wrong.append(shard)
            advance(len(samples))
    passed = lacking == surplus == len(wrong) == 0
    text = f"the index names {len(named)} ids for {kept} kept ones"
    if lacking:
        text += f"; {lacking} lack, such as {shown(absent[schemas.ID][0])}"
    if surplus:
        text += f"; {surplus} are too many"
    if wrong:
        text += f"; {len(wrong)} shards do not hold what it names, such as {wrong[0]}"
    if not passed:
        text += f"; materialize curated_shards at eps {eps} again"
    numbers = {"kept": kept, "listed": len(named), "lacking": lacking, "surplus": surplus}
    return Verdict(passed, text, {**numbers, "wrong_shards": len(wrong)})


def _stated_pairs(store: Store, cluster: int, name: str, rows: np.ndarray) -> tuple[pa.Table, int]:
    """Some rows of a list with what they state, and how many are gone or were not scored.

    A list of ids alone states what the pruning table does.
    """
    table = read_table(store, name)
    there = rows[rows < table.num_rows]
    removed, gone = table.take(pa.array(there)), len(rows) - len(there)
    if schemas.MAX_ID in removed.column_names:
        return removed, gone
    scored = read_table(store, layout.scores(cluster))
    found = pc.index_in(removed[schemas.ID], value_set=scored[schemas.ID]).combine_chunks()
    return scored.take(found.drop_null()), gone + found.null_count


def _wrong_pairs(pairs: pa.Table, rows: pa.Table, dim: int, eps: str) -> list[Any]:
    """The ids whose match is not as stated."""
    vectors = column_to_vectors(rows[schemas.EMBEDDING], dim)
    left = pc.index_in(pairs[schemas.ID], value_set=rows[schemas.ID])
    right = pc.index_in(pairs[schemas.MAX_ID], value_set=rows[schemas.ID])
    there = pc.and_(left.is_valid(), right.is_valid()).to_numpy()
    a = vectors[pc.fill_null(left, 0).to_numpy()].astype(np.float64)
    b = vectors[pc.fill_null(right, 0).to_numpy()].astype(np.float64)
    cosine = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    stated = pairs[schemas.SCORE].to_numpy()
    right_score = np.abs(cosine - stated) <= np.spacing(np.float32(1.0))
    other = pc.not_equal(pairs[schemas.ID], pairs[schemas.MAX_ID]).to_numpy()
    wrong = ~(there & right_score & other & (stated >= score_threshold(eps)))
    return pairs[schemas.ID].filter(pa.array(wrong)).to_pylist()


_Sample = tuple[Any, int | None, int]
"""An id, where its sample begins in a tar, and its size."""


def _samples_by_shard(index: pl.DataFrame) -> Iterator[tuple[str, list[_Sample]]]:
    """The samples of each shard, in the order of the index, which is by shard and offset."""
    placed = index.filter(pl.col("shard").is_not_null())
    for (shard,), part in placed.group_by("shard", maintain_order=True):
        yield str(shard), part.select(schemas.ID, "offset", "size").rows()


def _shard_holds(store: Store, eps: str, shard: str, expected: list[_Sample]) -> bool:
    """Whether a shard has the samples that the index names, each whole, and nothing else."""
    name = f"{layout.shards(eps)}/{shard}"
    if not shard.endswith(".tar"):
        return _folder_holds(store.list_versions(name), expected)
    if not store.exists(name):
        return False
    try:
        with store.open(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            found = list(_samples_of(tar))
    except tarfile.TarError:
        return False
    return len(found) == len(expected) and all(
        have[1:] == want[1:] and _is_sample(want[0], have[0])
        for have, want in zip(found, expected, strict=True)
    )


def _samples_of(tar: tarfile.TarFile) -> Iterator[tuple[list[str], int, int]]:
    """Names of the members of each sample, where it begins and its size; of other files too."""
    for _, group in itertools.groupby(tar, lambda member: stem_of(member.name)):
        members = list(group)
        last = members[-1]
        end = last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        names = [member.name if member.isreg() else "" for member in members]
        yield names, members[0].offset, end - members[0].offset


def _folder_holds(files: dict[str, str], expected: list[_Sample]) -> bool:
    """The same of plain files: ``files`` are names and versions."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in files:
        found[name.partition(".")[0]].append(name)
    return len(found) == len(expected) and all(
        _is_sample(id_, names := found.get(sample_key(id_), []))
        and sum(size_of(files[name]) for name in names) == size
        for id_, _, size in expected
    )


def _is_sample(id_: Any, found: list[str]) -> bool:
    """Whether these can be the members of the sample of an id, by their names."""
    key = sample_key(id_)
    try:
        expected = members(id_, [name for name in found if name != f"{key}.{JSON}"], "")
    except InputError:
        return False
    return sorted(found) == sorted(f"{key}.{extension}" for extension in expected)
