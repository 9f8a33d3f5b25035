"""The checks before step 1, by topic; `checks.py` has the table of all of them, with their ids."""
