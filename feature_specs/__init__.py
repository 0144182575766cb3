"""What a dataset is: columns, tasks, vocabularies, statistics and FeatureSpec lists.

The modules that need no TensorFlow (:mod:`.dataset`, :mod:`.dataset_file`, :mod:`.manifest`, :mod:`.records`) are
imported by the data preparation as well as by the app; :mod:`.spec_list` needs the Rec SDK (or its CPU stand-in) and is
imported only by the app.
"""
