"""From raw files to prepared sets on disk: downloads, digests, memory maps."""
