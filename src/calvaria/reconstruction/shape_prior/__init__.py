"""The shape prior: mean and modes of many skulls, and the engine that completes a skull by them."""
