"""The demo: fine-tune a small VITS without and with the loss, and compare."""
