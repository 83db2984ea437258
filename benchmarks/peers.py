"""The searches of two peers, written from the description of what they do.

NeMo Curator multiplies all rows by a batch of 1,024 rows, keeps the strict upper triangle (zeros
elsewhere) and takes the maximum of each column. cosmos-curate goes over the tiles of 4,096 x 4,096
on or below the diagonal, clips them to -1 to 1, takes argmax along each row, gathers the value,
and keeps the better of it and what earlier tiles gave.

Both in the best form that is still that algorithm: buffers are used again, masks are written in
place, and ``flipped`` stores NeMo Curator's products transposed, so that its columns lie one
number after the other in memory. Each is there for torch, which works on either device, and for
NumPy and CuPy. ``products_only`` leaves out everything but the products.

All take unit rows in rank order, of shape (n, d), and return the best similarity to an earlier
row, (n,) in the type of the rows, and that row, (n,) int64; both in the place of the rows.
"""

from typing import Any

NEMO_BATCH = 1024
COSMOS_TILE = 4096


def nemo_torch(rows: Any, *, flipped: bool = False, products_only: bool = False) -> Any:
    """NeMo Curator's search of one cluster in torch."""
    import torch

    n = len(rows)
    score = torch.zeros(n, dtype=rows.dtype, device=rows.device)
    index = torch.zeros(n, dtype=torch.int64, device=rows.device)
    scratch = torch.empty(n * min(n, NEMO_BATCH), dtype=rows.dtype, device=rows.device)
    for begin in range(0, n, NEMO_BATCH):
        end = min(begin + NEMO_BATCH, n)
        out, batch = scratch[: n * (end - begin)], rows[begin:end]
        if flipped:
            product = torch.mm(batch, rows.T, out=out.view(end - begin, n)).T
        else:
            product = torch.mm(rows, batch.T, out=out.view(n, end - begin))
        if products_only:
            continue
        product.triu_(diagonal=1 - begin)
        torch.max(product, dim=0, out=(score[begin:end], index[begin:end]))
    return score, index


def nemo_arrays(xp: Any, rows: Any, *, flipped: bool = False, products_only: bool = False) -> Any:
    """The same in NumPy or CuPy."""
    n = len(rows)
    score = xp.zeros(n, dtype=rows.dtype)
    index = xp.zeros(n, dtype=xp.int64)
    scratch = xp.empty(n * min(n, NEMO_BATCH), dtype=rows.dtype)
    on_or_below = xp.tri(min(n, NEMO_BATCH), dtype=bool)
    for begin in range(0, n, NEMO_BATCH):
        end = min(begin + NEMO_BATCH, n)
        out, batch = scratch[: n * (end - begin)], rows[begin:end]
        if flipped:
            product = xp.matmul(batch, rows.T, out=out.reshape(end - begin, n)).T
        else:
            product = xp.matmul(rows, batch.T, out=out.reshape(n, end - begin))
        if products_only:
            continue
        product[begin:end][on_or_below[: end - begin, : end - begin]] = 0
        product[end:] = 0
        product.argmax(axis=0, out=index[begin:end])
        score[begin:end] = product[index[begin:end], xp.arange(end - begin)]
    return score, index


def cosmos_torch(rows: Any, *, products_only: bool = False) -> Any:
    """cosmos-curate's search of one cluster in torch."""
    import torch

    n, side = len(rows), min(len(rows), COSMOS_TILE)
    device = rows.device
    score = torch.full((n,), -torch.inf, dtype=rows.dtype, device=device)
    index = torch.zeros(n, dtype=torch.int64, device=device)
    scratch = torch.empty(side * side, dtype=rows.dtype, device=device)
    not_earlier = torch.ones((side, side), dtype=torch.bool, device=device).triu_()
    for top in range(0, n, side):
        bottom = min(top + side, n)
        for left in range(0, bottom, side):
            right = min(left + side, bottom)
            shape = (bottom - top, right - left)
            out = scratch[: shape[0] * shape[1]].view(shape)
            product = torch.mm(rows[top:bottom], rows[left:right].T, out=out)
            if products_only:
                continue
            product.clamp_(-1, 1)
            if left == top:
                product.masked_fill_(not_earlier[: shape[0], : shape[1]], -torch.inf)
            column = product.argmax(dim=1)
            value = product.gather(1, column[:, None])[:, 0]
            better = value > score[top:bottom]
            score[top:bottom] = torch.where(better, value, score[top:bottom])
            index[top:bottom] = torch.where(better, column + left, index[top:bottom])
    score[:1] = 0
    return score, index


def cosmos_arrays(xp: Any, rows: Any, *, products_only: bool = False) -> Any:
    """The same in NumPy or CuPy."""
    n, side = len(rows), min(len(rows), COSMOS_TILE)
    score = xp.full(n, -xp.inf, dtype=rows.dtype)
    index = xp.zeros(n, dtype=xp.int64)
    scratch = xp.empty(side * side, dtype=rows.dtype)
    not_earlier = ~xp.tri(side, k=-1, dtype=bool)
    for top in range(0, n, side):
        bottom = min(top + side, n)
        for left in range(0, bottom, side):
            right = min(left + side, bottom)
            shape = (bottom - top, right - left)
            out = scratch[: shape[0] * shape[1]].reshape(shape)
            product = xp.matmul(rows[top:bottom], rows[left:right].T, out=out)
            if products_only:
                continue
            xp.clip(product, -1, 1, out=product)
            if left == top:
                product[not_earlier[: shape[0], : shape[1]]] = -xp.inf
            column = product.argmax(axis=1)
            value = xp.take_along_axis(product, column[:, None], axis=1)[:, 0]
            better = value > score[top:bottom]
            score[top:bottom] = xp.where(better, value, score[top:bottom])
            index[top:bottom] = xp.where(better, column + left, index[top:bottom])
    score[:1] = 0
    return score, index
