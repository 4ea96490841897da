"""Short-term memory: past beliefs, actions, costs and predictions."""
