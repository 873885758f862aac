"""Alerts grouped into incidents, with timeline, lineage and manifest."""
