"""The ways people try to freeze a speaker encoder, run and measured: `python -m coqui_scl_plugin.freeze_methods`."""
