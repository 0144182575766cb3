"""Stand-in for the package ``mx_rec.util.communication``."""
