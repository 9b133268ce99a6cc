"""Grey values of scans: windows, tissue levels, and what a quick look tells."""
