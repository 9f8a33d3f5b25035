"""The demo: train a small VITS without and with the loss, and compare."""
