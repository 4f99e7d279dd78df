"""The methods of explanation, each under its name."""
