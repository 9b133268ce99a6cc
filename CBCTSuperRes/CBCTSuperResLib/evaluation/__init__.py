"""Scans with known truth, simulated acquisition, and the measures of image quality. Only table.py needs torch."""
