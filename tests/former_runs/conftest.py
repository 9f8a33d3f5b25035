"""`make.py` is for commit 421cd5f: it imports modules that have moved since."""

collect_ignore = ["make.py"]
