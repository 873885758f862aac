"""Rules, windows, alerts and entities."""
