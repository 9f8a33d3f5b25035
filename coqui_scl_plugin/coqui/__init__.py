"""The seam to Coqui: the only folder, beside `encoders/coqui.py` and `demo/`, that imports TTS or trainer."""
