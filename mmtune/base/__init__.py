"""What every other room stands on: errors, files within bounds, time, progress, rules for fields."""
