"""Tables at rest: Delta Lake tables of Parquet files, written by several processes at once."""
