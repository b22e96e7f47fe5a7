"""A registered model as one file that runs without mmtune."""
