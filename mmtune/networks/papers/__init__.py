"""The networks of the five papers, as they are printed; Keras' layers, where a paper used these."""
