"""The main job on a small default: fine-tune a VITS without and with the loss, and compare."""
