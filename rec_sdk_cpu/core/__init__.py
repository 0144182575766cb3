"""The implementation behind the stand-in modules."""
