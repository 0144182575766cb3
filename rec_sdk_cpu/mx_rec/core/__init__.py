"""Stand-in for the package ``mx_rec.core``."""
