"""The library: one function for each verb."""
