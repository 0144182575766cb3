"""What a dataset is: columns, tasks, vocabularies, statistics; only ``sdk`` and ``spec_list`` need TensorFlow."""
