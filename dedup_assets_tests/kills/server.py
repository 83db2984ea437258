"""An S3 server in a process of its own, that takes uploads in small parts; prints its endpoint."""

import sys
import threading

import moto.s3.models

from dedup_assets_tests.s3 import serving

SMALLEST_PART = 1 << 10


def main() -> None:
    moto.s3.models.S3_UPLOAD_PART_MIN_SIZE = SMALLEST_PART  # type: ignore[attr-defined]
    with serving() as endpoint:
        sys.stdout.write(f"{endpoint}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
