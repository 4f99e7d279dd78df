"""The DICOM source: files described by their headers, without what identifies the patient."""
