"""The picture of the similarity histogram. The one module that imports matplotlib."""

import io

import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dedup_assets.compute.thresholds import score_threshold

_BAR_WIDTH = 0.01
_MOST_MARKED = 24
_COUNT, _ECDF, _EPS = "#4c78a8", "#e45756", "#2a9d4a"


def draw(table: pa.Table, rows: int, eps_values: list[str]) -> bytes:
    """Draw counts (logarithmic), the ECDF and the configured eps values.

    Args:
        table: rows of `schemas.HISTOGRAM`.
        rows: rows of all clusters, for the title.
        eps_values: canonical eps values to mark; of many, some from the least to the greatest.

    Returns:
        A PNG.
    """
    low = table["score_low"].to_numpy()
    counts = table["count"].to_numpy()
    compared = int(counts.sum())
    occupied = low[counts > 0]
    left = max(-1.0, float(np.floor(occupied.min() * 20) / 20) - 0.02) if compared else -1.0
    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # A score of exactly 1 belongs into the last bar, not beyond it.
    edges = np.arange(-100, 101) * _BAR_WIDTH
    binned = np.clip(np.floor(low / _BAR_WIDTH + 1e-6), -100, 99).astype(int) + 100
    heights = np.bincount(binned, weights=counts, minlength=200)
    axes.bar(edges[:-1], heights, width=_BAR_WIDTH, align="edge", color=_COUNT, alpha=0.85)
    if compared:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.5)
    axes.set_xlim(left, 1.01)
    axes.set_xlabel("cosine similarity with the best earlier-ranked clip of the cluster")
    axes.set_ylabel("clips (log)", color=_COUNT)
    share = axes.twinx()
    share.step(table["score_high"].to_numpy(), table["ecdf"].to_numpy(), color=_ECDF, where="post")
    share.set_ylim(0, 1.02)
    share.set_ylabel("share of clips at or below (ECDF)", color=_ECDF)
    for row, eps in enumerate(_spread(eps_values)):
        threshold = float(score_threshold(eps))
        axes.axvline(threshold, color=_EPS, linestyle="--", linewidth=1.2)
        share.annotate(
            f"eps {eps}",
            (threshold, 0.97 - 0.06 * (row % 8)),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            color=_EPS,
            fontsize=9,
        )
    axes.set_title(f"{compared:,} compared clips of {rows:,}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _spread(eps_values: list[str]) -> list[str]:
    if len(eps_values) <= _MOST_MARKED:
        return eps_values
    ascending = sorted(eps_values, key=float)
    places = np.linspace(0, len(ascending) - 1, _MOST_MARKED).round().astype(int)
    return [ascending[place] for place in places]
