"""What every training needs, whatever is trained: steps, precision, processes, checkpoints, resuming."""
