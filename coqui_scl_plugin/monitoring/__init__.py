"""Similarity while a model trains: measured at each evaluation, kept, flagged and published."""
