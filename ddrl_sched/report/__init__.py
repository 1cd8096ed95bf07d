"""Parquet in, tables out. Never imports torch or the world."""
