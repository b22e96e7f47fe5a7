"""From a study's best trial to digits: the registry that promotes it, and predictors, which check all that comes in."""
