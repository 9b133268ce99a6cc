"""From files to batches: images decoded once, patches cut, degraded and augmented by draws of their own number."""
