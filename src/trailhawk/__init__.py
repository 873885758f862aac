"""Trailhawk: a self-hosted threat-hunting SIEM for AWS."""

__version__ = "0.1.0"
