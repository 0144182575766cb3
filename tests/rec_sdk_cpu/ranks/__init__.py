"""The stand-in on several ranks, against one rank and against NumPy."""
