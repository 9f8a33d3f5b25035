"""Losses, encoders and policies that distributions register: the hooks, the registry, and their parameters."""
