"""Small tools that know nothing of speech: files that appear whole, fingerprints, log levels, suggestions."""
