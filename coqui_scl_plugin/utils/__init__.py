"""Small tools that do not depend on speech: atomic writes, checkpoints, fingerprints, log levels, suggestions."""
