"""Attributes of the patient, for a page that somebody asked to show them. Nothing else here reads any."""

from __future__ import annotations

from pathlib import Path

from banet_monai.report.page.sources import Source

__all__ = ["patient_data"]

SHOWN = {
    "PatientName": "Patient's name",
    "PatientID": "Patient ID",
    "PatientBirthDate": "Birth date",
    "PatientSex": "Sex",
    "StudyDate": "Study date",
    "AccessionNumber": "Accession number",
}


def patient_data(source: Source) -> dict[str, str]:
    """Attributes of a DICOM case by their names in words; empty for other files and where nothing is stated."""
    import pydicom

    from banet_monai.dicom.deflated import refuse_bomb
    from banet_monai.dicom.parsing import looks_like_dicom, quiet_pydicom

    file = Path(source.image if isinstance(source.image, str) else source.image[0])
    if file.is_dir():
        file = next((path for path in sorted(file.iterdir()) if path.is_file()), file)
    if not source.image or not file.is_file() or not looks_like_dicom(file):
        return {}
    try:
        with quiet_pydicom(), file.open("rb") as content:
            refuse_bomb(content, file.name)
            content.seek(0)
            dataset = pydicom.dcmread(content, stop_before_pixels=True, specific_tags=list(SHOWN), force=True)
            stated = {name: str(dataset.get(key, "")).strip() for key, name in SHOWN.items()}
    except Exception:  # whatever a damaged file provokes: its picture says that it cannot be read
        return {}
    return {name: text for name, text in stated.items() if text}
