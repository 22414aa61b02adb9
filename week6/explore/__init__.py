"""The page to play with: its parts (HTML, style, script), and page.py, which puts them together."""
