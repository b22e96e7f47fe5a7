"""Encoders of one bank each, sized from the shape of its values: (B, *shape) float32 to (B, width)."""
