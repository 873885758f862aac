"""One file an attack: a function of the world and a stream of chance that gives an `Attack`."""

from __future__ import annotations

from .attack import Scenario, Variant
from .cloud_breach_s3 import VARIANTS

__all__ = ["SCENARIOS", "Scenario", "Variant"]

SCENARIOS = (
    Scenario(
        "cloud-breach-s3",
        "instance credentials taken through a web server's metadata service, then a bucket copied with them",
        VARIANTS,
    ),
)
