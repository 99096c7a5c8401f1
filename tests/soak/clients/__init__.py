"""Real clients in processes of their own, which write down what they saw."""
