"""Images in (DICOM, NIfTI, npy, PNG, JPEG, TIFF) and plain files out."""
