"""Stand-in for the package ``mx_rec.constants``."""
