"""The grading of the shipped models: our measure of ourselves, on data that no training has seen."""
