"""Tar shards of WebDataset: written, read whole, and streamed."""
