"""What lies below the model: files that are whole or not there, plain settings, the hub, model cards."""
