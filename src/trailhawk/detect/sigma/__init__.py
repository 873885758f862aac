"""Sigma rules taken in as rules of ours: read and translated by pySigma, fields proven against our tables.

pySigma and its Kusto backend are in the extra `trailhawk[sigma]`: `importing` is imported only where Sigma
rules are taken in. `docs/sigma.md` says what of Sigma is understood.
"""

from __future__ import annotations
