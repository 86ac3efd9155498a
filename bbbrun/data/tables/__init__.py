"""Tables of columns: read, split into parts, and turned into inputs of a network by a form stored as plain data."""
