"""What must not be read by others: passwords in addresses, and keys by the shape they have."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_PASSWORD = re.compile(r"(?<=://)[^\s/@?#'\"]+@")
# What follows the question mark of an address that is signed is as good as a password.
_QUERY = re.compile(r"(?<=\?)[^\s#'\"]+")
# Hugging Face, GitHub, GitLab, OpenAI and what copies its form, AWS, Slack, Google, a signed JSON.
_KEYS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|AIza[A-Za-z0-9_-]{35}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"
)


def without_secrets(text: str) -> str:
    """A text as it may be shown: names, passwords and keys are hidden.

    Args:
        text: Of a configuration, a message or a sample.

    >>> without_secrets("s3://me:word@host/a.jpg and hf_" + "a" * 34)
    's3://[hidden]@host/a.jpg and [hidden]'
    """
    if "://" in text:
        text = _PASSWORD.sub(f"{HIDDEN}@", text)
    return _KEYS.sub(HIDDEN, text)


def shown_address(address: str) -> str:
    """An address as it may stand in a message: without a password, and without its query.

    Args:
        address: What a sample names.

    >>> shown_address("https://me:word@host/a.jpg?signature=9f#top")
    'https://[hidden]@host/a.jpg?[hidden]#top'
    """
    return _QUERY.sub(HIDDEN, without_secrets(address))
