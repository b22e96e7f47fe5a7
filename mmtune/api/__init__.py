"""What Python calls: a study run, what came of it, a registered model loaded. `mmtune` itself has these names."""
