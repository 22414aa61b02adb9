"""Exercises: write attention yourself in `exercises.py`; `python -m week6.exercises` grades it and explains mistakes."""
