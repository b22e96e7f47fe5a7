"""A study and a data set to finished trials: plan, search, coordinator."""
