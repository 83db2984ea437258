"""How a remote store is reached: credentials, endpoint, and how long to try."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dedup_assets.errors import SettingsError, shown

S3 = "s3://"
RETRIES = 8
_TOKEN_VARIABLE = "AWS_SESSION_TOKEN"
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_CONNECTIONS = 32
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60


@dataclass(frozen=True)
class Access:
    """Credentials and endpoint of one side, input or output; they hold for remote paths only.

    Attributes:
        profile: a named profile of the AWS configuration files.
        endpoint_url: of an S3-compatible store.
        retries: how often a request is tried again after a fault that may pass.
        options: passed to s3fs. They may hold secrets: never shown, logged or written.
    """

    profile: str | None = None
    endpoint_url: str | None = None
    retries: int = RETRIES
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def s3_options(self) -> dict[str, Any]:
        """Arguments for s3fs.

        Raises:
            SettingsError: the environment names an endpoint with a password.
        """
        for variable in _ENDPOINT_VARIABLES:
            if "@" in os.environ.get(variable, ""):  # it would be in errors of boto
                raise SettingsError(
                    f"{variable} must hold no user name or password: put them into the credentials"
                )
        options = dict(self.options)
        if self.profile is not None:
            options.setdefault("profile", self.profile)
        if self.endpoint_url is not None:
            options.setdefault("endpoint_url", self.endpoint_url)
        config = {
            "max_pool_connections": _CONNECTIONS,
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            # What fails is tried again in one place, `store.retry`.
            "retries": {"mode": "standard", "total_max_attempts": 1},
        }
        options["config_kwargs"] = config | dict(options.get("config_kwargs", {}))
        return options

    @property
    def known_endpoint(self) -> str | None:
        """The endpoint, as far as settings and environment name one."""
        client = self.options.get("client_kwargs")
        named = (
            self.options.get("endpoint_url"),
            client.get("endpoint_url") if isinstance(client, Mapping) else None,
            self.endpoint_url,
            *(os.environ.get(variable) for variable in _ENDPOINT_VARIABLES),
        )
        found = next((str(url) for url in named if url), None)
        return None if found is None else found.rstrip("/").lower()

    @property
    def session_token(self) -> str | None:
        """Where a session token comes from, if the credentials have one."""
        if self.options.get("token"):
            return "the storage options"
        explicit = self.profile is not None or "key" in self.options or "anon" in self.options
        return _TOKEN_VARIABLE if not explicit and os.environ.get(_TOKEN_VARIABLE) else None


def is_remote(path: str) -> bool:
    """Whether a path is on S3: ``s3://bucket/prefix``."""
    return path.startswith(S3)


def is_other_url(path: str) -> bool:
    """Whether a path is a URL of something else than S3, and not a local path."""
    return "://" in path and not is_remote(path)


def is_object(path: str) -> bool:
    """Whether a path is a URL of S3 with a bucket and a key."""
    bucket, _, key = path.removeprefix(S3).partition("/")
    return is_remote(path) and bool(bucket and key)


def check_endpoint(url: str) -> str:
    """An endpoint's URL, refused if it holds a password or names no host.

    Raises:
        ValueError: it is none.
    """
    if "@" in url:  # wherever it is, so that no password is in an error below, nor in one of boto
        raise ValueError("must hold no user name or password: put them into the credentials")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"must look like https://host:port, got {shown(url)}")
    return url


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse arguments of s3fs with an endpoint that `check_endpoint` refuses.

    Raises:
        ValueError: they have one.
    """
    client = options.get("client_kwargs")
    for holder in (options, client if isinstance(client, Mapping) else {}):
        url = holder.get("endpoint_url")
        if url is None:
            continue
        try:
            check_endpoint(str(url))
        except ValueError as error:
            raise ValueError(f"endpoint_url {str(error).partition(', got ')[0]}") from None
