"""Preview: one slice of the result, computed around a point by a process that stays warm.

`request` is what is asked for, `areas` in which order a slice is filled; `canvas`, `scan` and `server` compute, in the
worker; `session` is the worker seen from outside, without torch.
"""
