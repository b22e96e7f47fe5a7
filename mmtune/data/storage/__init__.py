"""Data sets on disk: our own folders, and forms of others that are read as they are."""
