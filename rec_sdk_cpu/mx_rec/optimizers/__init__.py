"""Stand-in for the package ``mx_rec.optimizers``.

As in the SDK ``create_hash_optimizer`` and ``create_hash_optimizer_by_address`` are lazy Adam's, which it imports last.
"""
from rec_sdk_cpu.mx_rec.optimizers.gradient_descent_by_addr import create_hash_optimizer_by_addr
from rec_sdk_cpu.mx_rec.optimizers.lazy_adam import create_hash_optimizer
from rec_sdk_cpu.mx_rec.optimizers.lazy_adam_by_addr import create_hash_optimizer_by_address

__all__ = ["create_hash_optimizer", "create_hash_optimizer_by_addr", "create_hash_optimizer_by_address"]
