"""The volume source: NIfTI and NRRD files on one grid."""
