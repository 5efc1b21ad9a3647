"""A run's figures and sounds: what a table cannot show."""
