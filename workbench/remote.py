"""Files at an fsspec URL, such as `s3://bucket/prefix`: opened with one sentence for what fails."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from workbench.doors import LONGEST_PART, path_of, reason, short
from workbench.errors import WorkbenchError

URL = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.I | re.S)
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extra of the workbench's package that brings a protocol's driver."""
BUCKETS = frozenset({*EXTRAS, "abfs", "abfss", "adl", "az", "oci", "oss", "hf", "memory"})
"""Protocols without folders: a name with slashes needs none to be made, and a file appears whole.

Asking some of them for a folder would make a bucket, which is the user's to make.
"""
REFUSED = frozenset({"reference", "dask", "data", "cached", "blockcache", "filecache"})
"""Protocols whose address says more than where a file is."""
TRANSPORT = (
    "botocore",
    "aiobotocore",
    "aiohttp",
    "google",
    "gcsfs",
    "azure",
    "paramiko",
    "urllib3",
)
"""Packages whose own exceptions say that a store does not answer or does not let in."""
NO_BUCKET = "bucket does not exist"
"""What S3 answers where it is no file that is missing."""
MENDS = (
    (
        (NO_BUCKET, "NoSuchBucket"),
        "make the bucket first, or check its name",
    ),
    (
        (
            "Unable to locate credentials",
            "NoCredentials",
            "default credentials",
            "anonymous caller",
        ),
        "give the credentials by the store's own variables or files, such as AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials",
    ),
    (
        (
            "Access Denied",
            "AccessDenied",
            "Forbidden",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        ),
        "check the credentials and what they allow",
    ),
    (
        ("Could not connect", "ConnectTimeout", "Cannot connect", "Connection"),
        "check the network, and the server's address (AWS_ENDPOINT_URL for a server of your own)",
    ),
)
"""Words of an error and the mend; the first that fits."""


def is_url(name: object) -> bool:
    """Whether a name is an address like `s3://bucket/file`, and no path on this machine."""
    return isinstance(name, str) and URL.match(name.strip()) is not None


def opened(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL or local folder, and the path in it; nothing is asked yet.

    Args:
        url: One address; chained ones (`simplecache::s3://...`) are refused.

    Raises:
        WorkbenchError: No driver is installed for it, or it carries a password.
    """
    url = url.strip()
    if not is_url(url):
        if "::" in url:
            raise WorkbenchError(f"{shown(url)} is several addresses in one; give a plain one.")
        url = f"file://{path_of(url, 'folder').resolve()}"
    match = URL.match(url)
    assert match is not None, url
    protocol = match[1].lower()
    rest = match[2]
    if protocol in REFUSED or "::" in url:
        raise WorkbenchError(
            f"{shown(url)} is not the address of a file or folder; give a plain one, such as "
            "s3://bucket/folder."
        )
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        raise WorkbenchError(
            f"{shown(url)} carries a password, which would be stored with the run; leave it out, "
            "and give it by the store's own variables or files."
        )
    import fsspec

    try:
        # Others write there too, so what was listed a moment ago proves nothing.
        system, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        how = f'pip install "gpt-workbench[{extra}]"' if extra else f"its driver ({reason(error)})"
        raise WorkbenchError(
            f"{shown(url)} needs a driver for {protocol}; install {how}."
        ) from error
    except ValueError as error:
        raise WorkbenchError(
            f"{shown(url)} cannot be opened ({reason(error)}); give an address that fsspec knows, "
            "such as s3://bucket/folder or gs://bucket/folder."
        ) from error
    return system, path


@contextmanager
def asking(url: str, what: str = "cannot be used") -> Iterator[None]:
    """Turns what a store answers in the block into one sentence with the mend.

    Args:
        url: What is asked; the sentence begins with it.
        what: What could not be done with it.

    Raises:
        WorkbenchError: The store refused, does not answer, or has no such file or bucket.
    """
    try:
        yield
    except WorkbenchError:
        raise
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | TimeoutError) and package not in TRANSPORT:
            raise
        words = f"{type(error).__name__} {error} {error.__cause__ or ''}"
        mend = next(
            (mend for signs, mend in MENDS if any(sign in words for sign in signs)),
            "check the address",
        )
        raise WorkbenchError(f"{shown(url)} {what} ({reason(error)}); {mend}.") from error


def shown(url: str) -> str:
    """A URL without the name and password that it may carry, cut where it is long."""
    return short(re.sub(r"://[^/@]*@", "://…@", url), 120)


def is_plain_name(name: str) -> bool:
    """Whether a name that a store gives lies below its folder, and can be one here."""
    path = PurePosixPath(name)
    parts = path.parts
    inside = bool(parts) and not path.is_absolute() and ".." not in parts
    plain = "\\" not in name and "\0" not in name and len(name) < 1000
    return inside and plain and all(len(part.encode()) <= LONGEST_PART for part in parts)


def write_bytes(system: Any, path: str, content: bytes) -> None:
    """Write a file that is there whole or not at all, making the folders above it.

    Args:
        system: From `opened`.
        path: In it.
        content: Of the file.
    """
    if _has_folders(system):
        make_folder(system, path.rpartition("/")[0])
        part = f"{path}.part"
        system.pipe_file(part, content)
        system.mv(part, path)
    else:
        system.pipe_file(path, content)


def put_file(system: Any, here: Path, path: str) -> None:
    """Write a local file there; one of another size under its name is a torn one."""
    if _has_folders(system):
        make_folder(system, path.rpartition("/")[0])
    system.put_file(str(here), path)


def make_folder(system: Any, path: str) -> None:
    """Make a folder where the store has folders."""
    if _has_folders(system):
        system.makedirs(path, exist_ok=True)


def _has_folders(system: Any) -> bool:
    protocols = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
    return not BUCKETS & set(protocols)
