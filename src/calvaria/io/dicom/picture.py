"""A picture as a DICOM object: a secondary capture, which any viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calvaria.files import PathLike
from calvaria.io.dicom.modules import BODY_PART, add_common, add_related_series, new_uid, pydicom_is_here, save
from calvaria.io.dicom.source import DicomSource

if TYPE_CHECKING:
    from PIL.Image import Image

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class: one frame, any colours."""


def write_picture(
    path: PathLike, picture: Image, source: DicomSource, *, description: str = "Skull reconstruction, picture"
) -> None:
    """Write a picture as a secondary capture in a series of its own in the scan's study.

    Args:
        path: the file; replaced if it is there.
        picture: of any mode; 8-bit RGB is written, uncompressed: not every archive takes RLE. A transparent one is laid
            on white.
        source: the scan that it was made from.
        description: of the series, at most 64 characters.

    Raises:
        InputError: the disk refuses.
        MissingExtraError: pydicom is not installed.
    """
    pydicom_is_here()
    import numpy as np
    from pydicom.dataset import Dataset
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = np.asarray(_opaque(picture), dtype=np.uint8)
    dataset = Dataset()
    dataset.SOPClassUID = SECONDARY_CAPTURE
    dataset.Modality = "OT"
    add_common(dataset, source, what="picture", series_uid=new_uid(), description=description)
    # A page of views lies nowhere in the patient.
    del dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator
    dataset.BodyPartExamined = BODY_PART  # also says that there is no left or right one
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.PatientOrientation = ""
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    add_related_series(dataset, source)
    dataset.LossyImageCompression = "00"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    save(path, dataset, ExplicitVRLittleEndian)


def _opaque(picture: Image) -> Image:
    """RGB, on white."""
    from PIL import Image as Images

    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    above = picture.convert("RGBA")
    return Images.alpha_composite(Images.new("RGBA", above.size, "white"), above).convert("RGB")


__all__ = ["SECONDARY_CAPTURE", "write_picture"]
