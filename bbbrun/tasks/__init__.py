"""What is learnt and how it is judged: data, network, likelihood, and the columns of metrics.csv."""
