"""What the tests of several rooms share beyond fixtures: things to make, to feed in and to compare."""
