"""Storage below the model: atomic files, plain settings, weights, the hub, model cards."""
