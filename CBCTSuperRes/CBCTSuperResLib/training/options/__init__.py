"""The options of a training: the JSON file, its keys, what they mean and what is wrong with them. Needs no torch."""
