"""DICOM files made by the tests."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian


def write_dicom(path, pixels=None, *, syntax=ExplicitVRLittleEndian, without=(), **elements):
    """Writes `pixels`, (H, W), (F, H, W), (H, W, 3) by `SamplesPerPixel=3`, with the usual header unless told."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    dataset = Dataset()
    dataset.file_meta = meta
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) if pixels is None else pixels
    color = elements.get("SamplesPerPixel") == 3 and pixels.shape[-1] == 3
    size = pixels.shape[-3:-1] if color else pixels.shape[-2:]
    bits = 8 * pixels.itemsize
    usual = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "OT",
        "PatientID": "P1",
        "Rows": size[0],
        "Columns": size[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": elements.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes(),
    }
    if pixels.ndim == 3 + color:
        usual["NumberOfFrames"] = len(pixels)
    if color:
        usual["PlanarConfiguration"] = 0
    for name, value in (usual | elements).items():
        if name not in without:
            setattr(dataset, name, value)
    if len(dataset.get("PixelData", b"")) % 2:
        dataset.PixelData += b"\0"
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if bits == 8 or syntax.is_encapsulated else "OW"
        dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**elements):
    """A sequence of one item."""
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return Sequence([dataset])


def lut(first, bits, entries, vr="OW"):
    """A sequence of one lookup table."""
    sequence = item(LUTDescriptor=[len(entries) % 65536, first, bits])
    sequence[0].add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    sequence[0].add_new("LUTData", vr, np.asarray(entries, "<u2").tobytes() if vr == "OW" else list(map(int, entries)))
    return sequence
