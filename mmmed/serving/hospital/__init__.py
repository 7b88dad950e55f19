"""A deployment's ways in and out of a hospital: DICOM in, signed reports out as DICOM SR and FHIR."""
