"""What several methods' losses share: pure functions on tensors."""
