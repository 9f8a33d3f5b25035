"""Evaluation of synthetic speech: metrics, speaker verification, results and their report. No model, no Coqui."""
