"""Files of encoders: fetching them, checking their hashes, and reading them without running code."""
