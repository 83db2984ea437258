"""Trying again: which faults of a remote store may pass, how long to wait, and what to say."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from http.client import IncompleteRead
from typing import Any, TypeVar

from dedup_assets.errors import StorageError

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 20.0
_SILENCE_S = 30.0
_TRANSIENT_CODES = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling"),
    *("ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "OperationAborted"),
    *("IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch"),
}
_EXPIRED_CODES = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_BAD_KEY_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
"""Not the progress of a pass: requests are made in threads too, which have no listener."""


class TruncatedError(OSError):
    """A body ended before its stated length."""


def retrying(
    act: Callable[[], Result],
    doing: str,
    place: str,
    retries: int,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Call ``act``, again after faults that may pass, with waits that double, at random in full.

    Args:
        act: one request.
        doing: what it does, for the message: "read", "write", "list", "delete".
        place: URL of the object.
        retries: how often it is tried again.
        sleep: waits.

    Raises:
        FileNotFoundError, FileExistsError: as ``act`` does; a retry does not fix them.
        StorageError: the fault did not pass, or cannot.
    """
    started = said = time.monotonic()
    for attempt in range(retries + 1):
        try:
            return act()
        except (FileNotFoundError, FileExistsError) as error:
            if code_of(error) == "NoSuchBucket":
                bucket = "/".join(place.split("/")[:3])
                raise StorageError(
                    f"{bucket}: there is no such bucket; check its name, the endpoint and the "
                    "credentials' account"
                ) from error
            raise
        except Exception as error:
            # botocore follows redirections to nowhere, and may hide how that ends.
            if "maximum recursion depth" in str(error):
                raise no_s3(doing, place) from error
            if not is_transient(error):
                raise _refusal(error, doing, place) from error
            if attempt == retries:
                raise StorageError(
                    f"{place}: could not {doing} it, {_reason(error)}; tried {attempt + 1} "
                    f"{'time' if attempt == 0 else 'times'} in {time.monotonic() - started:.0f} s; "
                    "run again when the store answers, or raise storage_retries"
                ) from error
            if time.monotonic() - said >= _SILENCE_S:
                said = time.monotonic()
                _log.warning(
                    "%s: could not %s it yet, %s; trying again, %d of %d times",
                    *(place, doing, _reason(error), attempt + 1, retries),
                )
            longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
            sleep(random.uniform(0, longest))
    raise AssertionError("unreachable")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(
        error,
        ConnectionError | TimeoutError | asyncio.TimeoutError | IncompleteRead | TruncatedError,
    ):
        return True
    status, code = status_of(error), code_of(error)
    if code in _TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501):
        return True
    # Those of the network, below botocore.
    return type(error).__name__ in {
        *("ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError", "HTTPClientError"),
        *("EndpointConnectionError", "IncompleteReadError", "ResponseParserError"),
        *("ClientPayloadError", "ServerDisconnectedError", "ClientOSError", "FSTimeoutError"),
        *("ResponseStreamingError", "ServerTimeoutError", "ProxyConnectionError"),
        "ClientConnectionResetError",
    }


def _refusal(error: Exception, doing: str, place: str) -> Exception:
    code, kind = code_of(error), type(error).__name__
    if code in _EXPIRED_CODES or kind in ("TokenRetrievalError", "UnauthorizedSSOTokenError"):
        return StorageError(
            f"{place}: could not {doing} it, the session token of the credentials has expired; "
            "get new credentials and run again, which goes on where this stopped"
        )
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return StorageError(
            f"{place}: could not {doing} it, there are no credentials; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, name a profile, or give storage options"
        )
    if kind == "ProfileNotFound":
        return StorageError(
            f"{place}: {error}; name a profile of ~/.aws/config or ~/.aws/credentials"
        )
    if code in _BAD_KEY_CODES:
        return StorageError(
            f"{place}: could not {doing} it, the store does not accept the credentials ({code}); "
            "check the key, the secret and the endpoint"
        )
    if isinstance(error, PermissionError) or status_of(error) in (401, 403):
        return StorageError(
            f"{place}: not allowed to {doing} it ({code or 'access denied'}); give the "
            "credentials that right, or use a profile that has it"
        )
    if code or isinstance(error, OSError) or type(error).__module__.startswith("botocore"):
        return StorageError(f"{place}: could not {doing} it, {_reason(error)}")
    return error


def no_s3(doing: str, place: str) -> StorageError:
    """What to say of an answer that no S3 store gives: a proxy's page, or that of a login."""
    return StorageError(
        f"{place}: could not {doing} it, what answers does not speak S3; check the endpoint, and "
        "whether a proxy stands in between"
    )


def _reason(error: BaseException) -> str:
    code, status = code_of(error), status_of(error)
    if code:
        return f"the store answered {status} {code}" if status and code != str(status) else code
    text = str(error).strip().splitlines()
    if not text and "Timeout" in type(error).__name__:  # of asyncio and fsspec
        return "its answer did not arrive in time"
    # The first line of this one says only that something is wrong.
    told = " ".join(text) if type(error).__name__ == "ParamValidationError" else "".join(text[:1])
    return f"{type(error).__name__}{': ' + told if told else ''}"


def _response(error: BaseException | None) -> dict[str, Any]:
    """What botocore keeps of an answer; s3fs hides it behind an OSError."""
    for one in (error, getattr(error, "__cause__", None)):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def code_of(error: BaseException) -> str:
    """The code that S3 gave an error, or an empty text."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def status_of(error: BaseException | None) -> int:
    """The HTTP status that an error of botocore or s3fs came with, or 0."""
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
