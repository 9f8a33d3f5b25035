"""Listening tests: a page that asks people which of two runs speaks more like a person, and the score of their answers.

`questions.py` draws what is asked, `clips.py` makes what is heard, `page.py` writes the page and its key, `answers.py`
reads what listeners send back, and `score.py` counts it.
"""
