"""DCAT: two networks that read each other by attention, and a head that says how sure it is."""
