"""The balancing methods, one file each."""
