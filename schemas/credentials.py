"""Credentials in URLs: found, hidden, refused. What is written down, shown or stored never holds them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_USER = re.compile(r"(?<=://)[^/?#@\s]*:(?!\d{1,5}(?:[/?#]|$))[^@\s]+(?=@)")
"""user:password before a host; a number is a port. A password may hold slashes, as those of AWS do."""

_QUERY = re.compile(
    r"(?i)(?<=[?&;])((?:[\w.-]*(?:signature|credential|token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key)[\w.-]*"
    r"|sig|key|pwd|auth)=)[^&;#\s'\"]+"
)
"""Parameters of signed URLs (S3, Azure, Google) and of keys."""

REMEDY = (
    "leave them out of it: they would be stored and shown. Give them by the environment or files of the store's own "
    "tools (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials), or by fsspec's configuration "
    "(~/.config/fsspec/*.json, FSSPEC_S3_KEY)"
)
"""What to do instead."""


def redacted(text: str) -> str:
    """A text with what is secret in its URLs left out.

    Examples
    --------
    >>> redacted("no answer of https://me:pass/word@host:80/a?part=1&X-Amz-Signature=ab12")
    'no answer of https://***@host:80/a?part=1&X-Amz-Signature=***'
    >>> redacted("s3://bucket/a@b, tcp://host:8786/x@y, sftp://me@host/a?part=1")
    's3://bucket/a@b, tcp://host:8786/x@y, sftp://me@host/a?part=1'
    """
    return _QUERY.sub(r"\1***", _USER.sub("***", text)) if "://" in text else text


def with_credentials(values: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and text, what is secret left out, of every text with credentials in what a file holds."""
    if isinstance(values, str) and (shown := redacted(values)) != values:
        yield key, shown
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from with_credentials(value, f"{key}.{redacted(str(name))}".strip("."))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from with_credentials(value, f"{key}.{number}".strip("."))
