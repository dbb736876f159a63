"""Train a model: the module, its optimization and phases, the run folder, the callbacks."""
