"""Training of a model: images with known truth, a randomised scanner, and the loop. Worker-side: needs torch."""
