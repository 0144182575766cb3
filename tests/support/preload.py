"""What forked commands find loaded: importing TensorFlow takes longer than they do."""
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

import jinja2  # noqa: E402, F401
import matplotlib.backends.backend_agg  # noqa: E402, F401
import matplotlib.figure  # noqa: E402, F401

from estimator_app.device import prepare_device  # noqa: E402

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
prepare_device("cpu")
import estimator_app.serving.export  # noqa: E402, F401
import estimator_app.serving.predict  # noqa: E402, F401
import estimator_app.training.train  # noqa: E402, F401
import preprocessing.prepare  # noqa: E402, F401
