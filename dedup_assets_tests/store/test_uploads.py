"""Uploads in parts that a killed process left: invisible, and paid for until they are aborted."""

from typing import Any

import moto.s3.models
import pytest

from dedup_assets.errors import StorageError
from dedup_assets.store import s3 as module
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.s3 import S3Server


@pytest.fixture
def store(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(module, "_PART_BYTES", 1000)
    return Store(s3.url("output"))


def begin(server: S3Server, key: str) -> None:
    client = server.client()
    upload = client.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]
    part = {"Bucket": server.bucket, "Key": key, "UploadId": upload, "PartNumber": 1}
    client.upload_part(**part, Body=b"half")


def unfinished(server: S3Server) -> list[str]:
    listed = server.client().list_multipart_uploads(Bucket=server.bucket)
    return [upload["Key"] for upload in listed.get("Uploads", ())]


def test_an_unfinished_upload_is_aborted_when_the_object_is_written_again(
    s3: S3Server, store: Store
):
    """That of another object may be alive, even if its name begins alike."""
    begin(s3, "output/a.tar")
    begin(s3, "output/a.tar.gz")
    store.write_bytes("a.tar", bytes(2500))
    assert unfinished(s3) == ["output/a.tar.gz"]
    assert store.read_bytes("a.tar") == bytes(2500)


def test_credentials_that_may_not_list_uploads_may_still_write(
    s3: S3Server, store: Store, monkeypatch: pytest.MonkeyPatch
):
    call = module.S3Objects._call

    def refuse(self: Any, doing: str, path: str, method: str, **arguments: Any) -> Any:
        if method == "list_multipart_uploads":
            raise StorageError(f"{path}: not allowed to list it")
        return call(self, doing, path, method, **arguments)

    monkeypatch.setattr(module.S3Objects, "_call", refuse)
    begin(s3, "output/a.tar")
    store.write_bytes("a.tar", bytes(2500))
    assert store.read_bytes("a.tar") == bytes(2500)
