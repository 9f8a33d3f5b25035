"""What must hold before step 1, each check with an id; `checks.py` has the table of all of them."""
