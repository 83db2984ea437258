"""The picture of the similarity histogram. The one module that imports matplotlib."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_BAR_WIDTH = 0.01
_MARGINS = {"left": 0.09, "right": 0.92, "top": 0.81, "bottom": 0.12}
_TITLE_AT = 1.16  # height of the axes
_COUNT, _ECDF = "#4c78a8", "#e45756"


def draw(table: pa.Table, rows: int) -> bytes:
    """Draw counts (logarithmic) and the ECDF over similarity, and eps on a second axis.

    Args:
        table: rows of `schemas.HISTOGRAM`.
        rows: rows of all clusters, for the title.

    Returns:
        A PNG.
    """
    low = table["score_low"].to_numpy()
    counts = table["count"].to_numpy()
    compared = int(counts.sum())
    occupied = low[counts > 0]
    left = max(-1.0, float(np.floor(occupied.min() * 20) / 20) - 0.02) if compared else -1.0
    figure = Figure(figsize=(9, 4.5), dpi=110)
    FigureCanvasAgg(figure)
    # Fixed margins and places: to compute them takes as long as to draw the picture.
    axes = figure.subplots(gridspec_kw=_MARGINS)
    # A score of exactly 1 belongs into the last bar, not beyond it.
    edges = np.arange(-100, 101) * _BAR_WIDTH
    binned = np.clip(np.floor(low / _BAR_WIDTH + 1e-6), -100, 99).astype(int) + 100
    heights = np.bincount(binned, weights=counts, minlength=200)
    axes.stairs(heights, edges, fill=True, color=_COUNT, alpha=0.85)  # one patch, not 200 bars
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
    above = axes.secondary_xaxis("top", functions=(_complement, _complement))
    above.set_xlabel("eps that removes everything to the right")
    axes.set_title(f"{compared:,} compared clips of {rows:,}", y=_TITLE_AT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _complement(value: Any) -> Any:
    """eps of a similarity, and the similarity of an eps."""
    return 1 - value
