"""One file an attack: a function of the world and a stream of chance that gives an `Attack`."""

from __future__ import annotations

from . import cloud_breach_s3, function_credentials
from .attack import Scenario, Variant

__all__ = ["SCENARIOS", "Scenario", "Variant"]

SCENARIOS = (
    Scenario(
        "cloud-breach-s3",
        "instance credentials taken through a web server's metadata service, then a bucket copied with them",
        cloud_breach_s3.VARIANTS,
    ),
    Scenario(
        "function-credentials",
        "a Lambda function's key read from its environment, then a bucket copied with it",
        function_credentials.VARIANTS,
    ),
)
