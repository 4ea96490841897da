"""What carries tokens through time: one file for each substrate, and what they share."""
