"""Where the library meets MRML: nodes, views, and jobs whose results are nodes."""
