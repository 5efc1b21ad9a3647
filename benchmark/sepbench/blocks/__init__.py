"""Network parts that two or more recipes use."""
