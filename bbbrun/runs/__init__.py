"""A run is a folder: its writer (one process, locked), its reader, its identity, and the runs that are wanted."""
