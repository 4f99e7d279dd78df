"""Enhancement: the regions that a model looks at, enlarged and put back."""
