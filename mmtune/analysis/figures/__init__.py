"""Plotly figures: small pure functions from plain numbers to a figure."""
