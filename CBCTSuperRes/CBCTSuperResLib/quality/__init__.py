"""What a result says of itself."""
