"""Attacks and benign days as raw logs, as AWS would write them."""
