"""What a browser opens: a model's own page and server, MLflow's UI."""
