"""Folders on other machines, such as ``s3://bucket/folder``: read through a copy on this one, written through a staging folder.

Conventions
    A URL names a folder that fsspec opens; ``s3://`` needs s3fs (the extra `s3`), which takes keys and endpoint from the usual
    environment variables and files of AWS.
    Commands work on local folders alone: at their door a URL is exchanged for a copy (`copies`, `inputs`) or for a staging folder
    (`staging`), and messages name the URL again (`addresses.with_addresses`).
    Both lie in ``$AVSROBUST_CACHE``, else ``~/.cache/avsrobust``: ``remote/`` may be deleted at any time, ``staging/`` holds the
    work of interrupted commands.
"""

from avsrobust.remote.addresses import (
    ENVIRONMENT_CACHE,
    address_of,
    is_remote,
    is_remote_place,
    join,
    naming_addresses,
    with_addresses,
)
from avsrobust.remote.copies import local_copy
from avsrobust.remote.messages import telling
from avsrobust.remote.staging import output_folder, published, put_so_far, remote_marker, require_own

__all__ = [
    "ENVIRONMENT_CACHE",
    "address_of",
    "is_remote",
    "is_remote_place",
    "join",
    "local_copy",
    "naming_addresses",
    "output_folder",
    "published",
    "put_so_far",
    "remote_marker",
    "require_own",
    "telling",
    "with_addresses",
]
