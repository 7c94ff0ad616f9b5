"""What several plugins need: neighbours, the referee of refinements, lengths, figures."""
