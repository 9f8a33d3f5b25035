"""What the README and the docs say about speed and agreement, measured; `make bench` runs all of it."""
