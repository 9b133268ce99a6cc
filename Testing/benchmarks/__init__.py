"""Speed and memory, beside what they are compared with. A wrong result is an error, slowness is not."""
