"""Stand-in for the package ``rec_sdk_common.communication.hccl``."""
