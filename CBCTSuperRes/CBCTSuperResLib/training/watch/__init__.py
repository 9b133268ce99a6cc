"""Watching a training: validation, curves, previews, TensorBoard."""
