"""`python -m coqui_scl_plugin` is the command `coqui-scl`."""

from coqui_scl_plugin.cli import main

if __name__ == "__main__":
    main()
