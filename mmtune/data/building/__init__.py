"""From files, tables and arrays to a data set."""
