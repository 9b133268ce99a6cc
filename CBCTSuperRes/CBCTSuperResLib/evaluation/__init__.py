"""Scans with known truth, simulated acquisition, and the measures of image quality. Nothing here needs torch."""
