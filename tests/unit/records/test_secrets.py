"""Passwords and keys are not shown, and what only looks a little like one is."""

from __future__ import annotations

import pytest

from sightline.records import shown_address, without_secrets

TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "ghp_" + "x9" * 18,
        "sk-proj-" + "Ab1_" * 6,
        "AKIA" + "A1B2" * 4,
        "glpat-" + "y" * 20,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLW9m",
    ],
)
def test_a_key_is_hidden_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"token: {secret}", f'{{"key": "{secret}"}}', f"a/{secret}/b"):
        shown = without_secrets(text)
        assert secret not in shown
        assert shown == text.replace(secret, "[hidden]")


@pytest.mark.parametrize(
    "text",
    [
        "hf_hub_download",
        "a task-oriented dialogue",
        "sk-learn",
        "https://host/a.jpg?size=3",
        "me@host.org",
        "https://host/@me/a.jpg",
        "x://a b@c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:word@host/a.jpg", "https://[hidden]@host/a.jpg"),
        ("s3://key@bucket/a", "s3://[hidden]@bucket/a"),
        ("https://host/a.jpg?X-Signature=9f&e=1", "https://host/a.jpg?[hidden]"),
        ("https://host/a.jpg", "https://host/a.jpg"),
    ],
)
def test_an_address_is_shown_without_what_opens_it(address: str, shown: str) -> None:
    assert shown_address(address) == shown
