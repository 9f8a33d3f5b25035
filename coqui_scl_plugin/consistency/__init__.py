"""The speaker consistency term, which combines encoders, references and a loss."""
