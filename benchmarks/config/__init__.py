"""What a run is, what is used where nothing is given, and which runs a suite consists of."""
