"""Watching a training: validation against cubic interpolation, the log, curves, previews, TensorBoard, events."""
