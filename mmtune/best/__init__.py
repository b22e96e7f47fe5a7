"""From data and time to one model with a certificate: search, train again, ensemble, score once, register."""
