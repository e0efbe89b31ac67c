"""Uploads in parts to S3 that were begun and have not ended: no listing shows their parts.

S3 keeps the parts, and bills them, until someone ends or aborts the upload. fsspec aborts one that
fails; a process that is killed cannot.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in parts that has not ended."""

    name: str
    """Of the file that it would become, as seen from the store."""
    bytes: int
    """That have arrived."""
    begun_s: float
    """Seconds since 1970."""
    request: dict[str, str]
    """What S3 knows it by."""


def unfinished(filesystem: Any, uri: str) -> Iterator[Upload]:
    """Yield the uploads under a prefix, such as `s3://bucket/prefix`."""
    bucket, _, prefix = f"{uri}/".partition("://")[2].partition("/")
    markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
    begun = pages(
        filesystem.call_s3, "list_multipart_uploads", markers, Bucket=bucket, Prefix=prefix
    )
    for each in begun:
        request = {"Bucket": bucket, "Key": each["Key"], "UploadId": each["UploadId"]}
        name, begun_s = each["Key"].removeprefix(prefix), each["Initiated"].timestamp()
        yield Upload(name, _arrived_bytes(filesystem, request), begun_s, request)


def give_up(filesystem: Any, upload: Upload) -> None:
    """Remove the parts of an upload; who is at work on it has to begin anew."""
    filesystem.call_s3("abort_multipart_upload", **upload.request)


def _arrived_bytes(filesystem: Any, request: dict[str, str]) -> int:
    markers = {"PartNumberMarker": "NextPartNumberMarker"}
    with suppress(FileNotFoundError):  # it has ended meanwhile
        return sum(
            part["Size"] for part in pages(filesystem.call_s3, "list_parts", markers, **request)
        )
    return 0


def pages(
    call: Callable[..., Any], operation: str, markers: dict[str, str], **request: Any
) -> Iterator[dict[str, Any]]:
    """Yield what S3 lists a thousand at a time; fsspec would ask for the first thousand alone.

    Args:
        call: sends a request to S3.
        operation: that lists uploads, or parts of one.
        markers: fields of the request, with those of the answer that tell where to go on.
        request: its other fields.
    """
    while True:
        answer = call(operation, **request)
        yield from answer.get("Uploads" if "Prefix" in request else "Parts", [])
        if not answer.get("IsTruncated"):
            return
        request |= {asked: answer[said] for asked, said in markers.items()}
