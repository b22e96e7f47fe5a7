"""From a study's best trial to answers: the registry that promotes it, predictors, which check all that comes in."""
