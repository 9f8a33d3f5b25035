"""Similarity during training: measured at each evaluation epoch, recorded, flagged and published."""
