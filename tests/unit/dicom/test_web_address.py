import pytest

from banet_monai.dicom.web import DicomWebAddress, is_web_address


@pytest.mark.parametrize(
    ("url", "base", "study", "series"),
    [
        ("http://127.0.0.1:8042/dicom-web/studies/1.2.3/series/4.5", "http://127.0.0.1:8042/dicom-web", "1.2.3", "4.5"),
        ("https://pacs.example/studies/1.2.3", "https://pacs.example", "1.2.3", None),
        ("https://pacs.example/a-b/rs/studies/1.2.3/", "https://pacs.example/a-b/rs", "1.2.3", None),
        ("HTTPS://PACS.example:443/rs/studies/1.2/series/3/", "https://pacs.example:443/rs", "1.2", "3"),
        ("http://[::1]:8042/studies/1.2", "http://[::1]:8042", "1.2", None),
        ("http://h/studies/x/studies/1.2", "http://h/studies/x", "1.2", None),
        ("http://h/studies/1.02." + "9" * 58, "http://h", "1.02." + "9" * 58, None),
    ],
)
def test_address_is_taken_apart(url, base, study, series):
    address = DicomWebAddress.parse(url)
    assert (address.base, address.study, address.series) == (base, study, series)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://h/studies/1.2", "no web address"),
        ("/data/studies/1.2", "no web address"),
        ("http:///studies/1.2", "no web address"),
        ("http://h/studies/1.2\n", "no web address"),
        ("http://h/a b/studies/1.2", "no web address"),
        ("http://h:port/studies/1.2", "cannot be taken apart"),
        ("http://[::1/studies/1.2", "cannot be taken apart"),
        ("http://h/dicom-web", "names no study or series"),
        ("http://h/dicom-web/series/1.2", "names no study or series"),
        ("http://h/studies/1.2/series/3.4/instances/5.6", "names no study or series"),
        ("http://h/studies/", "names no study or series"),
        ("http://h/studies/1.2?token=secret", "question mark"),
        ("http://h/studies/1.2#x", "fragment"),
        ("http://h/studies/one", "behind /studies/ is no DICOM UID"),
        ("http://h/studies/1..2", "behind /studies/ is no DICOM UID"),
        ("http://h/studies/1.2/series/..", "behind /series/ is no DICOM UID"),
        ("http://h/studies/1.2/series/%2e%2e", "behind /series/ is no DICOM UID"),
        ("http://h/studies/1." + "9" * 63, "behind /studies/ is no DICOM UID"),
        ("http://h/studies/\u0661.\u0662", "behind /studies/ is no DICOM UID"),
    ],
)
def test_what_leads_to_no_study_is_refused(url, said):
    with pytest.raises(ValueError, match=said):
        DicomWebAddress.parse(url)


@pytest.mark.parametrize("user", ["anna", "anna:hunter2", ":hunter2"])
def test_user_and_password_in_the_address_are_refused_and_not_repeated(user):
    with pytest.raises(ValueError, match=r"user name or password.*bearer token") as caught:
        DicomWebAddress.parse(f"https://{user}@pacs.example/studies/1.2.3")
    assert not any(word in str(caught.value) for word in ("anna", "hunter2", "1.2.3"))


def test_address_shows_no_uids():
    assert "1.2.3" not in repr(DicomWebAddress.parse("http://h/studies/1.2.3/series/1.2.3.4"))


def test_web_addresses_are_told_from_paths():
    assert is_web_address("HTTP://h/studies/1")
    assert not is_web_address("data/http")
    assert not is_web_address("C:/data")
