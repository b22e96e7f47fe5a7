"""Training and evaluation; knows neither MLflow nor Optuna."""
