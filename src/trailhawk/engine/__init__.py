"""Run a bound plan and give Arrow."""
