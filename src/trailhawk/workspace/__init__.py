"""Wiring: one home folder's lake, engine, state and clock, each made when first asked for."""

from trailhawk.workspace.home import Clock, TableState, Workspace, utc_now

__all__ = ["Clock", "TableState", "Workspace", "utc_now"]
