"""Exercises: write attention yourself. `python -m pytest week6/exercises` grades `exercises.py` and explains mistakes."""
