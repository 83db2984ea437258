"""Objects of S3 and of stores that speak its protocol: ranges, uploads, conditional writes.

s3fs brings the session and the credentials; each request here is one that `retry` may repeat.
"""

import contextlib
import errno
import io
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, TypeVar

from fsspec.asyn import sync

from dedup_assets.compute.threads import in_order
from dedup_assets.errors import StorageError
from dedup_assets.store.retry import TruncatedError, code_of, no_s3, retrying, status_of

TAIL_BYTES = 64 << 10
"""Read at first: the whole of a small object, the footer of most tables."""

LONGEST_REQUEST_S = 300.0
"""The session's own time-outs do not count while it waits for leave to send a body."""

_PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_UPLOADS = 4
_PRECONDITION = "PreconditionFailed"

_T = TypeVar("_T")


class ChangedError(OSError):
    """An object was replaced while it was read."""


class ConflictError(Exception):
    """A conditional write found another content than the one it was to replace."""


@dataclass(frozen=True)
class Info:
    """Size in bytes, and a text that changes when the content does."""

    size: int
    version: str


class Entries(NamedTuple):
    """Names of the folders and of the files directly below a folder, sorted."""

    folders: list[str]
    files: list[str]


@dataclass(frozen=True)
class Piece:
    """Some bytes of an object, with its whole size and its ETag."""

    data: bytes
    size: int
    etag: str


class S3Objects:
    """Objects by path ``bucket/key``.

    Args:
        fs: an ``s3fs.S3FileSystem``.
        retries: how often a request is repeated after a fault that may pass.
        timeout_s: seconds after which a request is given up, whatever it waits for.
    """

    def __init__(self, fs: Any, retries: int, timeout_s: float = LONGEST_REQUEST_S) -> None:
        self._fs = fs
        self._timeout_s = timeout_s
        self._fs.retries = 1  # in one place, below
        self._retries = retries

    def once(self, timeout_s: float) -> "S3Objects":
        """The same objects, for requests that are tried once and not for long."""
        return S3Objects(self._fs, 0, timeout_s)

    def info(self, path: str) -> Info | None:
        """Of one object, or None if there is none."""
        try:
            found = self._call("look at", path, "head_object", Key=_key(path))
        except FileNotFoundError:
            return None
        except StorageError as error:
            if status_of(error.__cause__) in (400, 401, 403):
                self._say_why(path)
            raise
        if "ETag" not in found or "ContentLength" not in found:
            raise no_s3("look at", f"s3://{path}")
        return _info(found["ContentLength"], found["ETag"])

    def _say_why(self, path: str) -> None:
        """Raise what the store has to say: an answer to HEAD has no room for it."""
        with contextlib.suppress(FileNotFoundError):
            self.read(path, 0, 1)

    def list(self, folder: str) -> Iterator[tuple[str, Info]]:
        """Every object below a folder, as full paths; a request for each thousand."""
        yield from self._listed(folder, {})

    def has_any(self, folder: str) -> bool:
        """Whether there is an object below a folder."""
        return next(self._listed(folder, {"MaxKeys": 1}), None) is not None

    def entries(self, folder: str) -> Entries:
        """What lies directly below a folder, of the first thousand."""
        prefix = folder.partition("/")[2].rstrip("/")
        prefix = f"{prefix}/" if prefix else ""
        page = self._call("list", folder, "list_objects_v2", Prefix=prefix, Delimiter="/")
        folders = [entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", ())]
        objects = [entry["Key"][len(prefix) :] for entry in page.get("Contents", ())]
        return Entries(folders, [name for name in objects if name])

    def read(self, path: str, start: int, end: int, etag: str | None = None) -> Piece:
        """Bytes ``start`` to ``end`` of an object, fewer where it ends before.

        Raises:
            FileNotFoundError: there is no such object.
            ChangedError: it is not the one with this ETag any more.
        """
        piece = self._get(path, f"bytes={start}-{end - 1}", etag)
        if len(piece.data) > end - start:  # a store that knows no ranges sends all
            return Piece(piece.data[start:end], piece.size, piece.etag)
        return piece

    def read_tail(self, path: str) -> Piece:
        """The last `TAIL_BYTES` of an object, or all of it.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self._get(path, f"bytes=-{TAIL_BYTES}", None)

    def write(
        self, path: str, data: bytes, *, replaces: str | None = None, new: bool = False
    ) -> str:
        """Write an object whole.

        Args:
            path: where.
            data: its content.
            replaces: only if this is the ETag of what is there.
            new: only if nothing is there.

        Returns:
            Its ETag.

        Raises:
            ConflictError: what is there is something else.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if new else {}
        if replaces is not None:
            condition["IfMatch"] = replaces
        try:
            answer = self._call("write", path, "put_object", Key=_key(path), Body=data, **condition)
        except (FileExistsError, FileNotFoundError) as error:
            if not condition:
                raise
            raise ConflictError(path) from error
        except _PreconditionError as error:
            raise ConflictError(path) from error
        if "ETag" not in answer:
            raise no_s3("write", f"s3://{path}")
        return str(answer["ETag"])

    def upload(self, path: str, file: IO[bytes]) -> None:
        """Write an object whole from a file on disk, in parts if it is large."""
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if size <= _PART_BYTES:
            self.write(path, file.read())
            return
        step = max(_PART_BYTES, math.ceil(size / _MOST_PARTS))
        key: dict[str, Any] = {"Key": _key(path)}
        self._abort_abandoned(path)
        upload = self._call("write", path, "create_multipart_upload", **key)["UploadId"]
        key["UploadId"] = upload

        def parts() -> Iterator[tuple[int, bytes]]:
            for number, start in enumerate(range(0, size, step), start=1):
                file.seek(start)
                yield number, file.read(step)

        def send(part: tuple[int, bytes]) -> str:
            number, body = part
            sent = self._call("write", path, "upload_part", **key, PartNumber=number, Body=body)
            return str(sent["ETag"])

        try:
            # Each part is read when a thread is free, so four are in memory.
            etags = list(in_order(send, parts(), _UPLOADS, _UPLOADS))
            listed = [{"ETag": e, "PartNumber": n} for n, e in enumerate(etags, start=1)]
            self._complete(path, size, **key, MultipartUpload={"Parts": listed})
        except BaseException:
            with contextlib.suppress(OSError, StorageError):  # the first error is the news
                self._call("write", path, "abort_multipart_upload", **key)
            raise

    def _complete(self, path: str, size: int, **arguments: Any) -> None:
        try:
            self._call("write", path, "complete_multipart_upload", **arguments)
        except FileNotFoundError:
            # The upload is gone: it was completed by a request whose answer was lost.
            info = self.info(path)
            if info is None or info.size != size:
                raise

    def _abort_abandoned(self, path: str) -> None:
        """Abort what a killed process left of an upload to this path: its parts are paid for.

        Who writes here holds the lease, so no other upload to this path is alive.
        """
        key = _key(path)
        # The credentials or the store may not allow to list them: nothing else fails, or waits.
        with contextlib.suppress(OSError, StorageError):
            once: dict[str, Any] = {"retries": 0}
            listed = self._call("list", path, "list_multipart_uploads", **once, Prefix=key)
            for upload in listed.get("Uploads", ()):
                if upload["Key"] == key:
                    named: dict[str, Any] = {"Key": key, "UploadId": upload["UploadId"]}
                    self._call("write", path, "abort_multipart_upload", **once, **named)

    def delete(self, path: str) -> None:
        """Delete an object; S3 does not say whether it was there."""
        self._call("delete", path, "delete_object", Key=_key(path))

    def _listed(self, folder: str, options: dict[str, Any]) -> Iterator[tuple[str, Info]]:
        bucket, _, prefix = folder.partition("/")
        prefix = f"{prefix.rstrip('/')}/" if prefix.rstrip("/") else ""
        token: dict[str, Any] = {}
        while True:
            page = self._call("list", folder, "list_objects_v2", Prefix=prefix, **options, **token)
            for entry in page.get("Contents", ()):
                # Consoles make an object that ends in a slash to show an empty folder.
                if not entry["Key"].endswith("/"):
                    yield f"{bucket}/{entry['Key']}", _info(entry["Size"], entry["ETag"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _get(self, path: str, range_: str, etag: str | None) -> Piece:
        bucket, _, key = path.partition("/")
        condition = {} if etag is None else {"IfMatch": etag}
        arguments = {"Bucket": bucket, "Key": key, "Range": range_, **condition}

        def act() -> Piece:
            try:
                return sync(self._fs.loop, _fetch, self._fs, arguments, timeout=self._timeout_s)
            except OSError as error:
                if code_of(error) == "InvalidRange":  # as any is of an empty object
                    found = self._fs.call_s3(
                        "head_object", Bucket=bucket, Key=key, timeout=self._timeout_s
                    )
                    return Piece(b"", int(found["ContentLength"]), found["ETag"])
                if code_of(error) == _PRECONDITION:
                    raise _PreconditionError from error
                raise

        try:
            return self._retrying(act, "read", path)
        except _PreconditionError as error:
            raise ChangedError(f"s3://{path} was replaced while it was read") from error

    def _call(
        self, doing: str, path: str, method: str, *, retries: int | None = None, **arguments: Any
    ) -> Any:
        bucket = path.partition("/")[0]

        def act() -> Any:
            try:
                return self._fs.call_s3(method, Bucket=bucket, timeout=self._timeout_s, **arguments)
            except OSError as error:
                if code_of(error) in (_PRECONDITION, "ConditionalRequestConflict"):
                    raise _PreconditionError from error
                raise

        return self._retrying(act, doing, path, retries)

    def _retrying(
        self, act: Callable[[], _T], doing: str, path: str, retries: int | None = None
    ) -> _T:
        try:
            most = self._retries if retries is None else retries
            return retrying(act, doing, f"s3://{path}", most)
        except FileNotFoundError as error:
            text = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, text, f"s3://{path}") from error


class _PreconditionError(Exception):
    """A condition of a request did not hold; a retry does not fix that."""


async def _fetch(fs: Any, arguments: dict[str, Any]) -> Piece:
    answer = await fs._call_s3("get_object", **arguments)
    async with answer["Body"] as body:
        data = await body.read()
    if "ETag" not in answer or "ContentLength" not in answer:
        raise no_s3("read", f"s3://{arguments['Bucket']}/{arguments['Key']}")
    if len(data) != answer["ContentLength"]:
        raise TruncatedError(f"the body ended after {len(data)} of {answer['ContentLength']} bytes")
    whole = answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2]
    return Piece(data, int(whole), answer["ETag"])


def _key(path: str) -> str:
    return path.partition("/")[2]


def _info(size: int, etag: str) -> Info:
    return Info(int(size), f"{size} {etag}")
