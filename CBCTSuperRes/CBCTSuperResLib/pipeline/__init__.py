"""The stations of the path from volume to super-resolved volume; `resolve` leads through them."""
