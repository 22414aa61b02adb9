"""How the figures are drawn: a module for each lab, a function for each figure. What they show comes in by arguments."""
