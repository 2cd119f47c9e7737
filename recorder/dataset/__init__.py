"""Shards to episodes: what is learned from and judged by, in immutable parts of Parquet files."""
