"""Recall and precision against a set worked out by hand."""

import pyarrow as pa
import pytest

from dedup_assets.demo.evaluate import TOTAL, KindResult, recall_and_precision
from dedup_assets.demo.truth import DUPLICATE_KINDS, KINDS, TRUTH_SCHEMA


def _truth() -> pa.Table:
    """Group A: a with crop, trim, flip, bitrate. Group B: b with crop. Look-alike al of a."""
    rows = [
        ("a", "original", "a"), ("ac", "crop", "a"), ("at", "trim", "a"), ("af", "flip", "a"),
        ("ab", "bitrate", "a"), ("al", "lookalike", "a"), ("b", "original", "b"),
        ("bc", "crop", "b"),
    ]  # fmt: skip
    ids, kinds, sources = zip(*rows, strict=True)
    duplicate = [kind in DUPLICATE_KINDS for kind in kinds]
    return pa.table(
        {"id": ids, "kind": kinds, "source_id": sources, "is_duplicate": duplicate},
        schema=TRUTH_SCHEMA,
    )


def _judge(*pairs: tuple[str, str]) -> dict[str, KindResult]:
    removed = pa.table(
        {
            "id": pa.array([a for a, _ in pairs], pa.string()),
            "max_id": pa.array([b for _, b in pairs], pa.string()),
            "cosine_sim_score": pa.array([0.99] * len(pairs), pa.float32()),
        }
    )
    return {result.kind: result for result in recall_and_precision(_truth(), removed)}


def test_by_hand():
    """a goes for ac, so ac is found though it stays. at goes for ac: found over ac. af and ab match
    only one another: a correct removal, neither found. bc goes for al, a look-alike of another
    scene, and al for b: both wrong.
    """
    results = _judge(("a", "ac"), ("at", "ac"), ("af", "ab"), ("bc", "al"), ("al", "b"))
    assert list(results) == [*KINDS, TOTAL]
    assert results["original"] == KindResult("original", 2, 0, 0, 1, 1)
    assert results["bitrate"] == KindResult("bitrate", 1, 1, 0, 0, 0)
    assert results["resolution"] == KindResult("resolution", 0, 0, 0, 0, 0)
    assert results["crop"] == KindResult("crop", 2, 2, 1, 1, 0)
    assert results["trim"] == KindResult("trim", 1, 1, 1, 1, 1)
    assert results["flip"] == KindResult("flip", 1, 1, 0, 1, 1)
    assert results["lookalike"] == KindResult("lookalike", 1, 0, 0, 1, 0)
    assert results[TOTAL] == KindResult(TOTAL, 8, 5, 2, 5, 3)
    assert results[TOTAL].recall == 2 / 5
    assert results[TOTAL].precision == 3 / 5
    assert results["lookalike"].removed_wrongly == 1
    assert results["lookalike"].recall is None, "a look-alike is not to be found"
    assert results["bitrate"].precision is None, "nothing of the kind was removed"


def test_ideal_result_is_perfect_whichever_clip_is_kept():
    for group in (["a", "ac", "at", "af", "ab"], ["ab", "a", "ac", "at", "af"]):
        kept, *rest = group
        total = _judge(*((i, kept) for i in rest), ("b", "bc"))[TOTAL]
        assert total.recall == 1
        assert total.precision == 1


def test_connection_over_a_clip_of_another_group_does_not_count():
    """ac - al - a: both edges are wrong, so nothing is found."""
    results = _judge(("ac", "al"), ("al", "a"))
    assert results["crop"].found == 0
    assert results[TOTAL].precision == 0


def test_nothing_removed_is_no_error():
    total = _judge()[TOTAL]
    assert total.recall == 0
    assert total.precision is None


def test_unknown_and_repeated_ids_are_named():
    with pytest.raises(ValueError, match="'zz' is not in the truth table"):
        _judge(("a", "zz"))
    with pytest.raises(ValueError, match="'ac' should occur once"):
        _judge(("ac", "a"), ("ac", "at"))
