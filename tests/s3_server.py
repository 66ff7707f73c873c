"""An S3 server of its own for tests (moto, on this machine), gone when they end."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

KEYS = {
    "AWS_ACCESS_KEY_ID": "a-key",
    "AWS_SECRET_ACCESS_KEY": "not-for-logs",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # else a machine without keys asks the network for some
}


@contextmanager
def server() -> Iterator["Server"]:
    """A running server; this process and its children find it by their environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        with mock.patch.dict(os.environ, {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}):
            forget()
            yield Server()
    finally:
        running.stop()
        forget()


def forget() -> None:
    """Make fsspec read the environment anew: it keeps its connections."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


class Server:
    """Buckets, seen by boto3, which shares no code with fsspec."""

    def __init__(self) -> None:
        import boto3

        self._client: Any = boto3.client("s3")

    def new_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=name)

    def delete_bucket(self, name: str) -> None:
        """Delete an empty bucket."""
        self._client.delete_bucket(Bucket=name)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys that begin so, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return self._client.get_object(Bucket=bucket, Key=key)["Body"].read()

    def write(self, bucket: str, key: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=bucket, Key=key)
