"""Jobs, seen from outside: a worker process is started, polled and stopped. Needs neither torch nor Qt nor Slicer."""
