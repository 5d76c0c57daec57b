"""Headers of synthetic exams: stripped as the challenge's are, or complete as a clinic's.

The clinical one is a Digital Mammography X-Ray Image - For Presentation (PS3.3 A.27): the
functions below are its modules. It says SYNTHETIC wherever it speaks, so that no reader takes
it for a patient's.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, generate_uid

from mammoscope import __version__
from mammoscope.cohort.synthetic.exposure import Exposure
from mammoscope.cohort.synthetic.machines import Machine
from mammoscope.dicom.views import MODIFIERS, VIEWS
from mammoscope.types import Laterality, View

__all__ = ["ImageFacts", "add_clinical_header", "add_identity", "describe_pixels"]

_SYNTHETIC = "SYNTHETIC, no patient"
# PS3.16 CID 4014 and 4015 by their words.
_CODED = {row.word: row for row in (*VIEWS, *MODIFIERS)}
# Rows run from the chest wall forwards in left breasts; columns downwards, in CC from the outer to
# the inner side (PS3.3 C.7.6.1.1.1). The foot of an oblique view also leans inwards.
_ROWS = {Laterality.L: "A", Laterality.R: "P"}
_INWARDS = {Laterality.L: "R", Laterality.R: "L"}
_COLUMNS = {View.CC: "{inwards}", View.ML: "F", View.LM: "F"}
_OBLIQUE = "F{inwards}"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of one image beside its unit and its pixels.

    Attributes:
        patient_id: Patient ID (0010,0020).
        image_id: Its number in the exam's table.
        uid_seed: Of all UIDs; the same seed and numbers give the same ones.
        laterality: Which breast.
        view: Which view.
        spacing_mm: Size of a pixel.
        exposure: How it was made.
        age: In years, where it is known.
        implant: Whether the breast has one.
        displaced: Whether it is pushed back in this view.
    """

    patient_id: str
    image_id: int
    uid_seed: str
    laterality: Laterality
    view: View
    spacing_mm: float
    exposure: Exposure
    age: int | None = None
    implant: bool = False
    displaced: bool = False


def add_identity(dataset: Dataset, facts: ImageFacts) -> None:
    """Write the little that a stripped file of the challenge says."""
    seed = [facts.uid_seed, facts.patient_id]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*seed, str(facts.image_id)])
    dataset.PatientID = facts.patient_id
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*seed, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*seed, "series"])
    dataset.InstanceNumber = str(facts.image_id)
    dataset.ImageLaterality = str(facts.laterality)


def describe_pixels(dataset: Dataset, machine: Machine, shape: tuple[int, int], black: int) -> None:
    """Write the Image Pixel and VOI LUT modules (PS3.3 C.7.6.3, C.11.2).

    Args:
        dataset: The header.
        machine: Which unit.
        shape: (H, W) of the stored values.
        black: Stored value of the background.
    """
    display = machine.display
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated = 8 if display.bits_stored <= 8 else 16
    dataset.BitsStored, dataset.HighBit = display.bits_stored, display.bits_stored - 1
    dataset.PixelRepresentation = 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if display.inverted else "MONOCHROME2"
    dataset.PixelPaddingValue = black
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "US"
    if display.function == "TABLE":
        table = display.table()
        item = Dataset()
        item.LUTDescriptor = [table.size, 0, display.bits_stored]
        item.LUTExplanation = "NORMAL"
        item.LUTData = table.astype("<u2").tobytes()
        dataset.VOILUTSequence = [item]
        return
    centers, widths = zip(*display.windows, strict=True)
    dataset.WindowCenter, dataset.WindowWidth = list(centers), list(widths)
    if display.stated:
        dataset.VOILUTFunction = display.function
    if display.inverted:
        dataset.PixelIntensityRelationship = "LOG"


def add_clinical_header(dataset: Dataset, machine: Machine, facts: ImageFacts) -> None:
    """Complete a described image to a clinical object.

    Args:
        dataset: After :func:`add_identity` and :func:`describe_pixels`.
        machine: Which unit.
        facts: Of the image.
    """
    _add_patient_and_study(dataset, facts)
    _add_equipment(dataset, machine)
    _add_image(dataset, machine)
    _add_detector(dataset, machine, facts.spacing_mm)
    _add_view(dataset, facts)
    _add_exposure(dataset, facts.exposure)


def _add_patient_and_study(dataset: Dataset, facts: ImageFacts) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName = "SYNTHETIC^EXAM"
    dataset.PatientBirthDate, dataset.PatientSex = "", "F"
    dataset.PatientComments = _SYNTHETIC
    if facts.age is not None:
        dataset.PatientAge = f"{facts.age:03d}Y"
    dataset.StudyDate = dataset.SeriesDate = "20000101"
    dataset.AcquisitionDate = dataset.ContentDate = "20000101"
    dataset.StudyTime = dataset.SeriesTime = "000000"
    dataset.AcquisitionTime = dataset.ContentTime = "000000"
    dataset.StudyID, dataset.SeriesNumber, dataset.AccessionNumber = "1", "1", ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "SYNTHETIC screening mammography"
    dataset.SeriesDescription = dataset.ImageComments = _SYNTHETIC


def _add_equipment(dataset: Dataset, machine: Machine) -> None:
    dataset.Modality, dataset.PresentationIntentType = "MG", "FOR PRESENTATION"
    dataset.Manufacturer = "mammoscope SYNTHETIC"
    dataset.ManufacturerModelName = f"synthetic phantom {machine.model}"
    dataset.InstitutionName = f"SYNTHETIC site {machine.site_id}"
    dataset.StationName = f"SYN{machine.machine_id}"
    dataset.DeviceSerialNumber = str(machine.machine_id)
    dataset.SoftwareVersions = __version__


def _add_image(dataset: Dataset, machine: Machine) -> None:
    """Write DX Image (PS3.3 C.8.11.3)."""
    inverted = machine.display.inverted
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.AcquisitionNumber = "1"
    dataset.PixelIntensityRelationship = "LOG"
    # Whether more X-rays give higher values, as they do where low values are white.
    dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
    dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.AcquisitionDeviceProcessingDescription = (
        f"gamma {machine.look.gamma}, sharpening {machine.look.sharpening}"
    )
    dataset.QualityControlImage = "NO"


def _add_detector(dataset: Dataset, machine: Machine, spacing_mm: float) -> None:
    """Write DX Detector (PS3.3 C.8.11.4): of the unit, at the image's size of a pixel."""
    spacing = [f"{spacing_mm:.5f}"] * 2
    element_mm = machine.field_mm / machine.size[0]
    field = [round(side * spacing_mm) for side in (dataset.Rows, dataset.Columns)]
    dataset.DetectorType = machine.detector.kind
    dataset.DetectorConfiguration = "AREA"
    dataset.DetectorDescription = "SYNTHETIC"
    dataset.DetectorID = f"SYN{machine.machine_id}"
    dataset.FieldOfViewShape, dataset.FieldOfViewDimensions = "RECTANGLE", field
    dataset.FieldOfViewOrigin = [0, 0]
    dataset.FieldOfViewRotation, dataset.FieldOfViewHorizontalFlip = "0", "NO"
    dataset.ImagerPixelSpacing = spacing
    dataset.DetectorElementPhysicalSize = [f"{element_mm:.5f}"] * 2
    dataset.DetectorElementSpacing = [f"{element_mm:.5f}"] * 2
    dataset.DetectorActiveShape = "RECTANGLE"


def _add_view(dataset: Dataset, facts: ImageFacts) -> None:
    """Write DX Anatomy Imaged and the view (PS3.3 C.8.11.2, C.8.11.7)."""
    view = facts.view
    dataset.BodyPartExamined = dataset.OrganExposed = "BREAST"
    dataset.AnatomicRegionSequence = [_code("76752008", "Breast")]
    dataset.PositionerType = "MAMMOGRAPHIC"
    # Dciodvfy warns of it, as the term is of another module; every unit writes it all the same.
    dataset.ViewPosition = str(view)
    down = _COLUMNS.get(view, _OBLIQUE).format(inwards=_INWARDS[facts.laterality])
    dataset.PatientOrientation = [_ROWS[facts.laterality], down]
    # The axillary tail is seen obliquely, and named as a modifier of that view (CID 4015).
    word, modifiers = ("MLO", ["AT"]) if view is View.AT else (str(view), [])
    if facts.displaced:
        modifiers.append("ID")
    code = _coded(word)
    code.ViewModifierCodeSequence = [_coded(modifier) for modifier in modifiers]
    dataset.ViewCodeSequence = [code]
    dataset.BreastImplantPresent = "YES" if facts.implant else "NO"
    dataset.PartialView = "NO"
    dataset.AcquisitionContextSequence = []


def _add_exposure(dataset: Dataset, exposure: Exposure) -> None:
    """Write dose, tube, filter and grid (PS3.3 C.8.11.7, C.8.7.8, C.8.7.10, C.8.7.11)."""
    beam = exposure.beam
    dataset.KVP = exposure.kvp
    dataset.XRayTubeCurrent = exposure.current_ma
    dataset.ExposureTime, dataset.Exposure = exposure.time_ms, exposure.exposure_mas
    dataset.ExposureInuAs = 1000 * exposure.exposure_mas
    dataset.ExposureControlMode = "AUTOMATIC"
    dataset.ExposureControlModeDescription = "SYNTHETIC: by thickness"
    dataset.FocalSpots = "0.3"
    dataset.AnodeTargetMaterial = beam.anode
    dataset.FilterType, dataset.FilterMaterial = "STRIP", beam.filter
    dataset.FilterThicknessMinimum = f"{beam.filter_mm * 0.9:.4f}"
    dataset.FilterThicknessMaximum = f"{beam.filter_mm * 1.1:.4f}"
    dataset.Grid = ["RECIPROCATING", "FOCUSED"]
    dataset.BodyPartThickness = exposure.thickness_mm
    dataset.CompressionForce = exposure.force_n
    dataset.DistanceSourceToDetector, dataset.DistanceSourceToPatient = 660, 600
    dataset.EstimatedRadiographicMagnificationFactor = "1.1"
    # Organ Dose (0040,0316) is in dGy; Entrance Dose (0040,0302) in whole dGy would be 0.
    dataset.OrganDose = f"{exposure.dose_mgy / 100:.5f}"
    dataset.EntranceDoseInmGy = f"{exposure.entrance_mgy:.2f}"


def _coded(word: str) -> Dataset:
    row = _CODED[word]
    return _code(row.codes[0], row.meaning)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code
