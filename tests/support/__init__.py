"""What tests of several rooms share: real file systems, the command line as it is called, faults made to happen."""
