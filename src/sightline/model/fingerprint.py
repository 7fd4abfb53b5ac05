"""Fingerprints of weights: equal bytes, equal fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch


def fingerprint(tensor: torch.Tensor) -> str:
    """A digest of a tensor's shape, dtype and bytes.

    >>> a = torch.zeros(2, 2)
    >>> fingerprint(a) == fingerprint(a.clone()), fingerprint(a) == fingerprint(a.bfloat16())
    (True, False)
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    flat = tensor.detach().cpu().contiguous().flatten()
    if flat.numel():
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprints(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, str]:
    """Fingerprint of every named tensor."""
    return {name: fingerprint(tensor) for name, tensor in tensors}


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Names whose fingerprints differ, or that only one side has."""
    return sorted(
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    )
