"""Tracked runs as one HTML page that works offline, and as tables of the command line."""
