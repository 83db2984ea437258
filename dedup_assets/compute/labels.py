"""The nearest centroid of each row while centroids move, in few products.

Hamerly, Making k-means even faster, SDM 2010, on unit rows: a row keeps its centroid if a lower
bound of their cosine exceeds an upper bound of those with all others. A centroid that moves by a
distance changes no cosine by more than that. The few that move farthest would loosen all bounds:
every row meets them, and the bounds follow the rest.
"""

from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module, to_host
from dedup_assets.compute.exact import squared_norms
from dedup_assets.compute.pairwise import check_unit_length
from dedup_assets.compute.products import Format, RightSide, for_each, row_chunks

_FAR = (0, 64, 16, 4)  # one in so many centroids may be met by every row; 0: none
_FEWEST = 64  # centroids for which bounds are worth their time
_GATHERED = 1.5  # what a product costs whose rows are gathered first


class Labels:
    """Rows, each with the nearest of some centroids: the one of largest product.

    Args:
        x: of shape (n, d), float32, unit rows, on host or device.
        centroids: of shape (k, d), float32, unit rows, likewise.
        quick: what to multiply in.
        memory_budget: bytes for products; a copy of ``x`` in a shorter format comes on top.

    Attributes:
        label: of shape (n,), int64, on the device of ``x``.
        centroids: that the rows were met with last.
        products: of a row and a centroid that were computed.

    Raises:
        ValueError: a row is not of length one.
    """

    def __init__(self, x: Any, centroids: Any, quick: Format, memory_budget: int) -> None:
        xp = array_module(x)
        self._xp, self._x, self._format, self._budget = xp, x, quick, memory_budget
        self.centroids = centroids
        self.products = 0
        self.label = xp.empty(len(x), dtype=xp.int64)
        self._low = xp.empty(len(x), dtype=xp.float64)  # of the cosine with its own centroid
        self._high = xp.empty(len(x), dtype=xp.float64)  # of those with all others
        self._deviation = check_unit_length(squared_norms(x))
        worst = int(quick.right(x[:1]).bound(x, self._deviation).argmax())
        self._coarsest = x[worst : worst + 1]
        self._chunks = self._cut(len(x), len(centroids))
        self._operands = {chunk.start: quick.operand(x[chunk]) for chunk in self._chunks}
        self._meet_all(*self._right(centroids))

    def move(self, centroids: Any) -> None:
        """Find the nearest of these centroids, which lie near the former ones, for each row."""
        xp, n, clusters = self._xp, len(self._x), len(centroids)
        right, error = self._right(centroids)
        moved = xp.sqrt(((centroids - self.centroids) ** 2).sum(axis=1, dtype=xp.float64))
        moved *= 1 + 1e-6  # the difference was rounded
        moved[moved > 0] += 2 * self._deviation  # lengths are not quite 1
        self.centroids = centroids
        order = np.argsort(-to_host(moved), kind="stable")
        low = self._low - moved[self.label]
        cost, far = float(n * clusters), 0
        if clusters >= _FEWEST:
            cost, far = min(
                (self._cost(low - self._high, reach, number, error), number)
                for number in sorted({clusters // part if part else 0 for part in _FAR})
                for reach in (float(moved[int(order[number])]),)
            )
        if cost >= n * clusters:
            self._meet_all(right, error)
            return
        self._low = low
        self._high += float(moved[int(order[far])])
        if far:
            self._meet_some(np.sort(order[:far]))
        rows = self._unsure(xp.arange(n), error)
        self._tighten(rows)
        self._meet_rows(self._unsure(rows, error), right, error)

    def _cost(self, margin: Any, reach: float, far: int, error: float) -> float:
        """Products that are needed if rows meet the ``far`` centroids that moved farthest."""
        unsure = int((margin - reach <= 2 * error).sum())
        return len(self._x) * far + _GATHERED * unsure * len(self.centroids)

    def _unsure(self, rows: Any, error: float) -> Any:
        """Those rows of which another centroid might have the largest product."""
        return rows[self._low[rows] - self._high[rows] <= 2 * error]

    def _right(self, centroids: Any) -> tuple[RightSide, float]:
        """Centroids as the right side of products, and how far one may lie from its cosine."""
        deviation = check_unit_length(squared_norms(centroids))
        self._deviation = max(self._deviation, deviation)
        right = self._format.right(centroids)
        return right, float(right.bound(self._coarsest, self._deviation)[0])

    def _cut(self, rows: int, columns: int) -> list[slice]:
        return row_chunks(self._xp, rows, columns, self._x.shape[1], memory_budget=self._budget)

    def _meet_all(self, right: RightSide, error: float) -> None:
        def meet(chunk: slice) -> None:
            self._set(chunk, right.product(self._operands[chunk.start]), error)

        for_each(self._xp, meet, self._chunks)
        self.products += len(self._x) * len(self.centroids)

    def _meet_rows(self, rows: Any, right: RightSide, error: float) -> None:
        def meet(chunk: slice) -> None:
            part = rows[chunk]
            self._set(part, right.product(self._format.operand(self._x[part])), error)

        for_each(self._xp, meet, self._cut(len(rows), len(self.centroids)))
        self.products += len(rows) * len(self.centroids)

    def _set(self, rows: Any, product: Any, error: float) -> None:
        """Take the label and both bounds from products with all centroids."""
        lines = self._xp.arange(len(product))
        label = product.argmax(axis=1)
        self.label[rows] = label
        self._low[rows] = product[lines, label] - error
        product[lines, label] = -np.inf
        self._high[rows] = product.max(axis=1) + error

    def _meet_some(self, far: np.ndarray) -> None:
        """Bring the bounds up to date with some centroids, whose bounds are not to be used."""
        xp = self._xp
        right, error = self._right(self.centroids[xp.asarray(far)])
        place = np.full(len(self.centroids), -1)
        place[far] = np.arange(len(far))
        own = xp.asarray(place)[self.label]

        def meet(chunk: slice) -> None:
            product = right.product(self._operands[chunk.start])
            lines = xp.flatnonzero(own[chunk] >= 0)
            column = own[chunk][lines]
            self._low[chunk.start + lines] = product[lines, column] - error
            product[lines, column] = -np.inf
            self._high[chunk] = xp.maximum(self._high[chunk], product.max(axis=1) + error)

        for_each(xp, meet, self._chunks)
        self.products += len(self._x) * len(far)

    def _tighten(self, rows: Any) -> None:
        """Compute the cosine of rows with their own centroids."""

        def meet(chunk: slice) -> None:
            part = rows[chunk]
            both = self._x[part] * self.centroids[self.label[part]]
            cosine = both.sum(axis=1, dtype=self._xp.float64)
            self._low[part] = cosine - 2.0**-23 - 1.01 * self._deviation  # each was rounded

        for_each(self._xp, meet, self._cut(len(rows), 1))
        self.products += len(rows)
