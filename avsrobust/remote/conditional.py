"""Writes that a store carries out only where a file still has the version that the writer knows of.

Conventions
    A mark is what the file system says of a file that changes when it does: the ETag of S3 and of Azure. fsspec has no call
    of its own for this beyond making a file exclusively, so that each kind of file system needs its own (`WRITERS`, by fsspec's
    protocol).
    A condition that does not hold is an exception, of many kinds. One that the store does not know may be passed over in
    silence: whoever relies on it tries it first (`avsrobust.remote.lease`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

# s3fs sends a file in one request where it is smaller than two chunks; larger ones go in parts of this size.
_PART_BYTES = 64 << 20


class ConditionalWriter(Protocol):
    """Conditional requests of one kind of file system."""

    impossible: str
    """A mark that no file has."""

    def write(self, system: Any, path: str, content: bytes, mark: str) -> str | None:
        """Write a small file over the one of this mark; return its new mark, None where the store does not say it."""

    def put(self, system: Any, local: Path, path: str, mark: str) -> None:
        """Write a local file over the one of this mark."""

    def remove(self, system: Any, path: str, mark: str) -> None:
        """Delete the file of this mark."""


class S3Writer:
    """``If-Match`` of Amazon's S3 and its likes, by s3fs.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
    """

    impossible = '"00000000000000000000000000000000"'

    def write(self, system: Any, path: str, content: bytes, mark: str) -> str | None:
        """Put an object in one request."""
        answer = system.pipe_file(path, content, IfMatch=mark)
        return str(answer["ETag"]) if isinstance(answer, dict) and "ETag" in answer else None

    def put(self, system: Any, local: Path, path: str, mark: str) -> None:
        """Put an object in one request, or, where it is large, in parts, of which the last request has the condition."""
        size = local.stat().st_size
        if size < 2 * _PART_BYTES:
            system.put_file(str(local), path, chunksize=_PART_BYTES, IfMatch=mark)
            return
        bucket, key, _ = system.split_path(path)
        place = {"Bucket": bucket, "Key": key}
        upload = {**place, "UploadId": system.call_s3("create_multipart_upload", **place)["UploadId"]}
        parts: list[dict[str, object]] = []
        # S3 takes 10,000 parts at most.
        step = max(_PART_BYTES, -(-size // 10_000))
        try:
            with local.open("rb") as stream:
                while body := stream.read(step):
                    number = len(parts) + 1
                    answer = system.call_s3("upload_part", **upload, PartNumber=number, Body=body)
                    parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            system.call_s3("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts}, IfMatch=mark)
        except BaseException:
            system.call_s3("abort_multipart_upload", **upload)
            raise

    def remove(self, system: Any, path: str, mark: str) -> None:
        """Delete an object."""
        bucket, key, _ = system.split_path(path)
        system.call_s3("delete_object", Bucket=bucket, Key=key, IfMatch=mark)


class AzureWriter:
    """``If-Match`` of Azure's blobs, by adlfs, which hands these arguments on.

    https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
    """

    impossible = '"0x000000000000000"'

    def write(self, system: Any, path: str, content: bytes, mark: str) -> str | None:
        """Write a blob in one request."""
        answer = system.pipe_file(path, content, **self._condition(mark))
        return str(answer["etag"]) if isinstance(answer, dict) and "etag" in answer else None

    def put(self, system: Any, local: Path, path: str, mark: str) -> None:
        """Write a blob, where it is large, in parts, of which the last request has the condition."""
        system.put_file(str(local), path, **self._condition(mark))

    def remove(self, system: Any, path: str, mark: str) -> None:
        """Delete a blob."""
        from fsspec.asyn import sync

        sync(system.loop, self._remove, system, path, mark)

    async def _remove(self, system: Any, path: str, mark: str) -> None:
        container, name, _ = system.split_path(path)
        async with system.service_client.get_blob_client(container=container, blob=name) as blob:
            await blob.delete_blob(**self._condition(mark))

    def _condition(self, mark: str) -> dict[str, Any]:
        # Imported by adlfs, through which alone it comes here.
        condition = sys.modules["azure.core"].MatchConditions.IfNotModified
        return {"etag": mark, "match_condition": condition}


WRITERS: dict[str, ConditionalWriter] = {"s3": S3Writer(), "abfs": AzureWriter()}


def writer_of(system: Any) -> ConditionalWriter | None:
    """Return the conditional requests of a file system of fsspec, None where there are none."""
    named = system.protocol
    names = (named,) if isinstance(named, str) else tuple(named)
    return next((WRITERS[name] for name in names if name in WRITERS), None)
