"""Ways in which people try to freeze a speaker encoder, run and measured: `python -m benchmarks.freeze_methods`."""
