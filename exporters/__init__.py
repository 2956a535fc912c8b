"""What leaves the machine: one file for each format or protocol."""
