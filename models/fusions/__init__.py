"""One file per fusion."""
