"""Stand-in for the package ``mx_rec.saver``."""
