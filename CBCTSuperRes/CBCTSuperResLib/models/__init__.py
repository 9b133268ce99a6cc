"""Model files: card, weights, where they lie, how they are checked and imported."""
