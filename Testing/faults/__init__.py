"""What can go wrong around the program: it is killed, the disk is full, folders are read-only, two want the same."""
