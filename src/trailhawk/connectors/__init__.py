"""How bytes arrive: folders of log files today, and what becomes of each: ingest, ledger, quarantine."""

from trailhawk.connectors.ledger import LEDGER
from trailhawk.connectors.quarantine import QUARANTINE
from trailhawk.connectors.sentinel_health import SENTINEL_HEALTH

TABLES = (LEDGER, QUARANTINE, SENTINEL_HEALTH)
"""Tables that ingest writes itself, about its own work."""

__all__ = ["LEDGER", "QUARANTINE", "SENTINEL_HEALTH", "TABLES"]
