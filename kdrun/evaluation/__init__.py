"""How good a model is, how two compare on the same images, what one costs and how fast it answers."""
