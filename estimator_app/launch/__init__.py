"""Many ranks, on NPUs and CPUs: environment, hosts, commands and checks; imports no TensorFlow."""
