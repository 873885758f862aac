"""How bytes arrive, and how they become rows: folder, ingest, ledger, quarantine."""
