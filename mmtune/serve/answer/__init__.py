"""Raw or prepared values to answers, and these in words."""
