"""What embeddings, predictions and runs say, as numbers and figures."""
