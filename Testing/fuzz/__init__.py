"""Files that nobody sent yet: mutations of every format that is read, against the readers."""
