"""Names for content: a digest of what an artifact was made from."""

import hashlib
import json
from typing import Any

DIGEST_LENGTH = 24


def fingerprint(*parts: Any) -> str:
    """A short digest of JSON-serialisable ``parts``; equal parts give equal digests."""
    encoded = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return digest(encoded.encode())


def digest(data: bytes) -> str:
    """The first hexadecimal digits of the SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]
