"""How bytes arrive: folders of log files today, and what becomes of each: ingest, ledger, quarantine."""

from trailhawk.connectors.ledger import LEDGER
from trailhawk.connectors.quarantine import QUARANTINE

TABLES = (LEDGER, QUARANTINE)
"""Tables that ingest itself writes."""

__all__ = ["LEDGER", "QUARANTINE", "TABLES"]
