"""A picture that is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """A PNG: the name of its file, what it is called, and what it shows for those who cannot see it."""

    name: str
    title: str
    says: str
    png: bytes
