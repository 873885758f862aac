"""The compiled kernel: the few loops in C that ingest spends its time in, and how they are built and loaded.

Whatever is here has a road in Python as well, which is taken where there is no kernel: see decision 170.
"""
