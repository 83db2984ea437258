"""The packages of peers, where they are installed."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import fits
from benchmarks.data import make_rows
from benchmarks.removals import similar_pairs
from benchmarks.removers import remove_by_semhash
from benchmarks.rounds import missing

TASK = fits.Task(make_rows(900, 16, 6, 3), clusters=6, seed=1, max_iter=8)


def need(module: str) -> None:
    reason = missing(module)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SWIG's, while faiss is imported
@pytest.mark.parametrize(
    ("module", "fitting"), [("faiss", fits.fit_faiss), ("sklearn.cluster", fits.fit_sklearn)]
)
def test_a_fit_is_recorded_after_each_iteration(module: str, fitting: fits.Fitting):
    """The inertia noted for an iteration is that of the fit which ends there."""
    need(module)
    whole = fitting(TASK)
    assert len(whole.points) == whole.iterations > 3
    seconds = [point.seconds for point in whole.points]
    assert seconds == sorted(seconds)
    for done in (1, 3):
        short = fitting(replace(TASK, max_iter=done)).points[-1].inertia(TASK.x)
        assert whole.points[done - 1].inertia(TASK.x) == pytest.approx(short, rel=1e-3)


def test_semhash_removes_what_is_similar():
    need("semhash")
    x = make_rows(500, 16, 4, 5)
    removed = remove_by_semhash(x, ["0.01", "0.1"])
    for eps, rows in removed.rows.items():
        pairs = similar_pairs(x, eps)
        assert pairs.share_found(rows) > 0.9
        assert pairs.without_partner(rows) == 0
        assert 0 < int(np.count_nonzero(rows)) < len(x)
