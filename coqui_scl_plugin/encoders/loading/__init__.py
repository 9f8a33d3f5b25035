"""Files of encoders: where they come from, whether they are the right ones, and whether they could run code."""
