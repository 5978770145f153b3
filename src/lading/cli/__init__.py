"""The command line: a file for each verb, loaded when it is called."""
