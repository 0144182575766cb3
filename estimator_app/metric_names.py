"""Names of the evaluation metrics, for modules that do not need TensorFlow."""

AUC_PREFIX = "auc_"
AUC_MEAN = "auc_mean"
LOSS = "mean_loss"
EXAMPLES = "examples"
