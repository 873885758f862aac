"""One file an attack: a function of the world and a stream of chance that gives an `Attack`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from ..world import World
from .attack import Attack
from .cloud_breach_s3 import cloud_breach_s3


@dataclass(frozen=True)
class Scenario:
    """An attack that can be simulated, by the name given on the command line."""

    name: str
    description: str
    attack: Callable[[World, Random], Attack]


SCENARIOS = (
    Scenario(
        "cloud-breach-s3",
        "instance credentials taken through a web server's metadata service, then a bucket copied with them",
        cloud_breach_s3,
    ),
)
