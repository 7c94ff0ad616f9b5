"""What encoders that learn from labels share."""
