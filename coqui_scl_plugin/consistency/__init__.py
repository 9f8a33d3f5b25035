"""The speaker consistency term: encoders, references and a loss put together."""
