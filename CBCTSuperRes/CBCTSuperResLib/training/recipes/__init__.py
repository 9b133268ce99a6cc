"""What is trained, with which losses, and how one step goes: one recipe a file."""
