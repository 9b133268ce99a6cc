"""From two scans of one object to aligned training pairs."""
