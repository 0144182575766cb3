"""Stands in for ``npu_bridge.estimator.npu.npu_strategy``."""
import tensorflow as tf


class NPUStrategy(tf.compat.v1.distribute.OneDeviceStrategy):
    """A one-device strategy on the host.

    Source: npu_bridge_api 1.1.
    """

    def __init__(self, device: str = "/cpu:0") -> None:
        """Makes the strategy.

        Args:
            device: only "/cpu:0"; the device itself is reached through the session's configuration.

        Raises:
            ValueError: any other device.
        """
        if device != "/cpu:0":
            raise ValueError("NPUStrategy: device must be '/cpu:0', but %r was given" % (device,))
        super().__init__(device)
