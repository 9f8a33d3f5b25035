"""References of generated speech: embeddings of real speech, computed once and cached in a file."""
