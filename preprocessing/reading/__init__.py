"""Raw files -> frames of rows, and what is wrong with the others."""
