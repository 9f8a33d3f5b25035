"""What generated speech is compared with: embeddings of real speech, computed once and kept in a file."""
