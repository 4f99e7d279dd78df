"""How far chance goes: intervals and tests, by patient."""
