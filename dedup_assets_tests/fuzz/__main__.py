import argparse
import sys
import time
from collections import Counter

from dedup_assets_tests.fuzz.run import FAILURES, outcomes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dedup_assets_tests.fuzz")
    parser.add_argument("--inputs", type=int, default=1_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first; each next is one more")
    arguments = parser.parse_args()
    started = time.monotonic()
    counts: Counter[str] = Counter()
    failed = 0
    for found in outcomes(arguments.seed, arguments.inputs):
        counts[f"{found.kind}: {found.outcome}"] += 1
        if found.outcome in FAILURES:
            failed += 1
            print(f"seed {found.seed} ({found.kind}): {found.outcome}: {found.detail}", flush=True)
    for outcome, count in sorted(counts.items()):
        print(f"{count:7,} {outcome}")
    seconds = time.monotonic() - started
    print(f"{sum(counts.values()):7,} inputs, {failed} failures, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
