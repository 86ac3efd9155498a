"""Bayes by Backprop: Weight Uncertainty in Neural Networks (Blundell et al., 2015), reproduced."""
