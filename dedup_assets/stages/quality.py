"""How good a data set and its clusters are: numbers to look at before the result is used."""

from typing import Any

import numpy as np

from dedup_assets.errors import StaleError, shown
from dedup_assets.settings import Settings
from dedup_assets.stages.clip_embeddings import failures, sort_records
from dedup_assets.stages.missed import find_missed
from dedup_assets.stages.verify import Verdict
from dedup_assets.stages.videos import Splitting, load_list
from dedup_assets.state.commits import rejected_by_file
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.processed import FAILED, records
from dedup_assets.store.tables import read_table

DRIFT_LIMIT = 1.25


def verify_valid(snapshot: Snapshot) -> Verdict:
    """Every vector is finite, of the right length and no zero, and every row has an id.

    Rows that are not fail the run, or with `on_invalid: quarantine` are set aside: these.
    """
    rows, groups = snapshot.manifest.rows, snapshot.groups
    counts = rejected_by_file(snapshot.store, groups)
    aside = sum(counts.values())
    text = f"{aside} of {rows} rows were set aside as invalid"
    if aside:
        name = next(name for name, count in counts.items() if count)
        first = read_table(snapshot.store, name).slice(0, 1).to_pylist()[0]
        text += (
            f"; the first is row {first['row']} of {first['file']}, id {shown(first[schemas.ID])}: "
            f"{first['reason']}; {snapshot.store.url(layout.REJECTED)} lists them"
        )
    return Verdict(not aside, text, {"rejected": aside, "input": rows})


def verify_split(snapshot: Snapshot) -> Verdict:
    """Every video was split into clips; those that could not be are listed with the reason."""
    common = Splitting(snapshot.settings)
    listed = load_list(common)
    kept, _ = sort_records(listed, records(common.store))
    reasons = failures(common.store, kept)
    numbers: dict[str, Any] = {"videos": len(listed.videos), "failed": len(reasons)}
    if not reasons:
        return Verdict(True, f"none of {len(listed.videos):,} videos failed", numbers)
    text = (
        f"{len(reasons):,} of {len(listed.videos):,} videos could not be split; the first: "
        f"{reasons[min(reasons)]}; {common.store.url(FAILED)} lists them, and materializing clips "
        "tries them again"
    )
    return Verdict(False, text, numbers)


def verify_balance(snapshot: Snapshot) -> Verdict:
    """Comparing the clusters costs about what clusters of equal size would.

    Each cluster costs the square of its rows: a few large ones decide how long comparing takes.
    """
    limit = snapshot.settings.clustering.balance_limit
    found = snapshot.found_commits(snapshot.ranges)
    current = {k: c for k, c in found.items() if c is not None and c.base == snapshot.base}
    sizes = {
        cluster: sum(fragment["rows"] for fragment in fragments)
        for key, commit in current.items()
        for cluster, fragments in commit.by_cluster(snapshot.ranges[key]).items()
    }
    if not any(sizes.values()):
        return Verdict(True, "no rows are in clusters yet", {"limit": limit})
    rows = np.array(list(sizes.values()), dtype=np.float64)
    squares = float(np.square(rows).sum())
    times = squares * len(rows) / float(rows.sum()) ** 2
    largest, median = max(sizes, key=lambda cluster: sizes[cluster]), int(np.median(rows))
    share = sizes[largest] ** 2 / squares
    text = (
        f"comparing takes {times:.1f} times what clusters of equal size would; cluster {largest} "
        f"has {sizes[largest]} rows, the median {median}, and takes {share:.0%} of it"
    )
    if len(current) < len(found):
        text += f"; {len(current)} of {len(found)} keys are there"
    if times > limit:
        text += (
            f"; the limit is {limit:g}: look at what cluster {largest} holds (copies, or failures "
            "of the encoder), raise n_clusters, or raise balance_limit"
        )
    numbers = {"times_equal": times, "largest": sizes[largest], "median": median, "limit": limit}
    return Verdict(times <= limit, text, {**numbers, "share_of_largest": share})


def verify_steady(settings: Settings, eps: str, shares: list[float]) -> Verdict:
    """The share removed at this eps is about that of the run before.

    Args:
        settings: of the dataset.
        eps: at which the shares were removed.
        shares: that were removed, the latest first.
    """
    factor = settings.thresholds.removed_factor
    if len(shares) < 2:
        return Verdict(True, f"nothing to compare with at eps {eps}", {"factor": factor})
    now, before = shares[:2]
    moved = max(now, before) > factor * min(now, before)
    text = f"{now:.2%} are removed at eps {eps}, and {before:.2%} were before"
    if moved:
        text += (
            f"; that is more than removed_factor {factor:g}: look at what was delivered, and at "
            "similarity_histogram, before you train on it"
        )
    return Verdict(not moved, text, {"now": now, "before": before, "factor": factor})


def verify_fit(snapshot: Snapshot) -> Verdict:
    """The rows lie about as close to their centroids as those that the centroids were fitted on.

    New input does not make centroids stale; this says when it has drifted away from them.
    """
    fit = snapshot.centroids.info
    fragments = snapshot.fragments().values()
    total = sum(f["squared_distance"] for of_cluster in fragments for f in of_cluster)
    now = total / max(1, snapshot.rows)
    fitted = fit["inertia"] / fit["sample_rows"]
    # Below this all rows are copies of centroids, and a ratio would be one of rounding errors.
    passed = now <= max(DRIFT_LIMIT * fitted, 1e-6)
    text = f"mean squared distance to the centroid is {now:.4g}, and was {fitted:.4g} at the fit"
    if not passed:
        text += "; fit the centroids again (refit: true, or --refit)"
    return Verdict(passed, text, {"now": now, "at_fit": fitted, "limit": DRIFT_LIMIT})


def verify_missed(snapshot: Snapshot) -> Verdict:
    """Clustering misses no more of the duplicates at the configured eps than it may.

    It says what the sample says, not what its interval allows: a warning costs little, and few
    duplicates in the sample show in a wide interval beside it.
    """
    settings, store = snapshot.settings, snapshot.store
    limit = settings.clustering.missed_limit
    if settings.clustering.missed_sample == 0:
        text = "not estimated: missed_sample is 0"
        return Verdict(True, text, {"limit": limit})
    missed = find_missed(snapshot)
    if missed is None:
        raise StaleError(
            f"{store.url(layout.MISSED)} is missing or stale; materialize missed_by_clustering"
        )
    shares = {eps: missed.at(eps).value or 0.0 for eps in settings.thresholds.eps_thresholds}
    over = [eps for eps, share in shares.items() if share > limit]
    described = "; ".join(f"{missed.describe(eps)} at eps {eps}" for eps in over or shares)
    if not shares:
        text = "no eps is configured; similarity_histogram shows the share missed at each eps"
    elif over:
        text = (
            f"clustering misses more than missed_limit {limit:g} of the duplicates: {described}; "
            "lower n_clusters, which costs more comparisons, or raise the limit; the pairs are in "
            f"{store.url(layout.MISSED)}"
        )
    else:
        text = f"missed by clustering: {described}; missed_limit is {limit:g}"
    worst = max(shares.values(), default=0.0)
    numbers = {"limit": limit, "worst": worst, "sampled": missed.table.num_rows}
    return Verdict(not over, text, numbers)
