"""Functions over neighbouring rows."""
