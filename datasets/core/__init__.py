"""What every dataset is built on: the promise, keys, loader, lists, errors, paths."""
