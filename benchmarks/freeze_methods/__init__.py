"""The ways people try to freeze a speaker encoder, run and measured: `python -m benchmarks.freeze_methods`."""
