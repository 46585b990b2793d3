"""Training: photos, the Lightning system, its callbacks and the recipe that joins them."""
