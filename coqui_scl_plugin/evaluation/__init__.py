"""Whether generated speech sounds like the right person: metrics, synthesis, results and their report."""
