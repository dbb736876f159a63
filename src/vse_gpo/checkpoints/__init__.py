"""Load models from files (training checkpoints, released files, saved folders); convert and export them."""
