import json
import re
import socket

import numpy as np
import pytest

from banet_monai.dicom.multipart import FileMessage
from banet_monai.dicom.web import DicomWeb, PacsError
from tests.dicom_objects import SERIES, STUDY, image, series, write, write_all
from tests.fake_pacs import FakePacs, after_storing, cut, cut_within, hang, multipart, references, status

pytest.importorskip("dicomweb_client")

OTHER_SERIES = "1.2.826.0.1.3680043.10.9"
SHORT = 0.4  # seconds, where a server is to be silent


def make_volume(slices=3):
    return np.arange(slices * 4 * 5, dtype=np.uint16).reshape(slices, 4, 5)


@pytest.fixture
def files(tmp_path):
    return write_all(series(make_volume()), tmp_path / "own")


@pytest.fixture
def pacs():
    with FakePacs() as server:
        yield server


@pytest.fixture
def full_pacs(files):
    with FakePacs(files) as server:
        yield server


def connect(server, *, retries=2, timeout=5, **options):
    return DicomWeb(server.url, timeout=timeout, retries=retries, backoff=0, **options)


def retrieve(server, folder, series=SERIES, **options):
    with connect(server, **options) as web:
        return web.retrieve(STUDY, series, folder=folder)


def store(server, paths, **options):
    with connect(server, **options) as web:
        return web.store(paths)


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def reasons(report):
    return [reason for _, reason in report.failed]


# ---- retrieving ------------------------------------------------------------------------------------------------------


def test_series_arrives_byte_for_byte_under_numbers(full_pacs, files, tmp_path):
    paths = retrieve(full_pacs, tmp_path / "in")
    assert [path.relative_to(tmp_path / "in").as_posix() for path in paths] == ["0001.dcm", "0002.dcm", "0003.dcm"]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in files]
    assert files_in(tmp_path / "in") == paths


def test_study_arrives_as_a_folder_for_each_image_series(full_pacs, tmp_path):
    full_pacs.keep(
        write(image(make_volume()[0], number=8, SeriesInstanceUID=OTHER_SERIES), tmp_path / "a").read_bytes()
    )
    seg = image(make_volume()[0], modality="SEG", number=9, SeriesInstanceUID="1.2.3")
    full_pacs.keep(write(seg, tmp_path / "b").read_bytes())
    paths = retrieve(full_pacs, tmp_path / "in", series=None)
    names = [path.relative_to(tmp_path / "in").as_posix() for path in paths]
    assert names == [*(f"series-0001/000{k}.dcm" for k in (1, 2, 3)), "series-0002/0001.dcm"]


def test_files_are_numbered_by_instance_number_not_by_the_order_of_the_answer(pacs, files, tmp_path):
    for path in reversed(files):
        pacs.keep(path.read_bytes())
    assert [path.read_bytes() for path in retrieve(pacs, tmp_path / "in")] == [path.read_bytes() for path in files]


@pytest.mark.parametrize("stated", [True, False])
def test_listing_in_pages_is_followed_to_its_end(full_pacs, tmp_path, stated):
    full_pacs.page = 2
    if not stated:
        full_pacs.counts[SERIES] = None
    assert len(retrieve(full_pacs, tmp_path / "in")) == 3


def test_server_that_always_sends_its_first_page_does_not_keep_us_for_ever(full_pacs, tmp_path):
    full_pacs.knows_offset, full_pacs.counts[SERIES] = False, None
    assert len(retrieve(full_pacs, tmp_path / "in")) == 3
    assert full_pacs.asked("instances") == 2


@pytest.mark.parametrize("stated", [2, 4])
def test_series_whose_listing_is_not_of_the_stated_length_is_refused(full_pacs, tmp_path, stated):
    full_pacs.counts[SERIES] = stated
    with pytest.raises(PacsError, match=f"lists 3 instances of a series of {stated}; try again"):
        retrieve(full_pacs, tmp_path / "in")
    assert full_pacs.asked("object") == 0


def test_unknown_series_and_study_are_named_as_such(full_pacs, tmp_path):
    with pytest.raises(PacsError, match="has no such series in this study"):
        retrieve(full_pacs, tmp_path / "in", series="1.2.3")
    full_pacs.objects.clear()
    with pytest.raises(PacsError, match="has no such study"):
        retrieve(full_pacs, tmp_path / "in", series=None)


def test_study_without_images_says_what_it_has(pacs, tmp_path):
    seg = image(make_volume()[0], modality="SEG")
    pacs.keep(write(seg, tmp_path / "b").read_bytes())
    with pytest.raises(PacsError, match="no image series in this study, only SEG"):
        retrieve(pacs, tmp_path / "in", series=None)


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_failures_that_pass_are_tried_again(full_pacs, tmp_path, code):
    full_pacs.faults["series"] += [status(code)]
    full_pacs.faults["object"] += [status(code), status(code), cut]
    assert len(retrieve(full_pacs, tmp_path / "in", retries=3)) == 3
    assert full_pacs.asked("object") == 3 + 3


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (400, "sense of the request"),
        (401, "valid token"),
        (403, "may not"),
        (404, "holds nothing there"),
        (500, "failed inside"),
    ],
)
def test_other_failures_are_not_tried_again(full_pacs, tmp_path, code, said):
    full_pacs.faults["object"] += [status(code, b"Doe^Secret")]
    with pytest.raises(PacsError, match=rf"instance 1 of 3: the server 127.0.0.1:\d+: it answered {code}: .*{said}"):
        retrieve(full_pacs, tmp_path / "in")
    assert full_pacs.asked("object") == 1
    assert not (tmp_path / "in").exists()


def test_silent_server_is_left_after_the_time_out_and_the_retries(full_pacs, tmp_path):
    full_pacs.faults["series"] += [hang] * 3
    with pytest.raises(PacsError, match=r"no answer within 0.4 s \(3 attempts\)") as caught:
        retrieve(full_pacs, tmp_path / "in", timeout=SHORT)
    assert caught.value.hopeless
    assert full_pacs.asked("series") == 3


def test_refused_connection_is_named(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/dicom-web"
    with (
        DicomWeb(url, timeout=0.2, retries=1, backoff=0) as web,
        pytest.raises(PacsError, match=r"no connection, or it was cut.*\(2 attempts\)"),
    ):
        web.retrieve(STUDY, SERIES, folder=tmp_path / "in")


def test_object_that_was_cut_short_is_asked_for_again(full_pacs, files, tmp_path):
    full_pacs.faults["object"] += [cut_within(files[0].read_bytes())]
    assert [path.read_bytes() for path in retrieve(full_pacs, tmp_path / "in")] == [p.read_bytes() for p in files]


def test_series_of_which_an_object_does_not_arrive_leaves_no_file(full_pacs, files, tmp_path):
    right = multipart(files[0].read_bytes())
    full_pacs.faults["object"] += [right, *[cut_within(files[1].read_bytes())] * 3]
    with pytest.raises(PacsError, match=r"instance 2 of 3: .*cut"):
        retrieve(full_pacs, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_other_series_of_a_study_still_arrive_when_one_fails(full_pacs, tmp_path):
    full_pacs.keep(
        write(image(make_volume()[0], number=8, SeriesInstanceUID=OTHER_SERIES), tmp_path / "a").read_bytes()
    )
    full_pacs.faults["object"] += [status(404)]
    with pytest.raises(PacsError, match="1 of 2 series were not retrieved; the first: instance 1 of 3") as caught:
        retrieve(full_pacs, tmp_path / "in", series=None)
    assert [p.relative_to(tmp_path).as_posix() for p in caught.value.retrieved] == ["in/series-0002/0001.dcm"]
    assert list(caught.value.retrieved) == files_in(tmp_path / "in")


def test_malformed_messages_and_objects_are_refused(full_pacs, files, tmp_path):
    data = files[0].read_bytes()
    other = files[1].read_bytes()
    for fault, said in [
        (multipart(data, data), "several parts"),
        (multipart(data, end="\r\n"), "several parts"),
        (multipart(data, end=""), "ends too early"),
        (multipart(data, content_type="text/html"), "no DICOM message"),
        (multipart(b"<html>Doe^Secret</html>" * 9), "no DICOM object"),
        (multipart(b""), "no DICOM object"),
        (multipart(other), "another object than the one asked for"),
    ]:
        full_pacs.faults["object"][:] = [fault]
        with pytest.raises(PacsError, match=f"instance 1 of 3: .*{said}"):
            retrieve(full_pacs, tmp_path / "in")
        assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("body", [b"<html>", b"5", b"[1]", b'{"a"', b"[" * 100_000, b"\xff\xfe"])
def test_answer_that_is_no_dicom_json_is_named(full_pacs, tmp_path, body):
    full_pacs.faults["series"] += [status(200, body)]
    with pytest.raises(PacsError, match="not the DICOM JSON asked for"):
        retrieve(full_pacs, tmp_path / "in")


def test_listed_uids_that_are_none_lead_nowhere(full_pacs, tmp_path):
    full_pacs.faults["instances"] += [status(200, b'[{"00080018": {"Value": ["../../../patients"]}}, {"00080018": 5}]')]
    with pytest.raises(PacsError, match="lists 0 instances of a series of 3"):
        retrieve(full_pacs, tmp_path / "in")
    assert full_pacs.asked("object") == 0


def test_redirections_are_not_followed(full_pacs, tmp_path):
    with FakePacs() as elsewhere:
        full_pacs.faults["object"] += [status(302, Location=elsewhere.url + "/studies/1/series/2/instances/3")]
        with pytest.raises(PacsError, match=r"redirects elsewhere.*give the final address"):
            retrieve(full_pacs, tmp_path / "in")
        assert not elsewhere.seen


def test_folder_with_files_and_malformed_uids_are_refused(full_pacs, files, tmp_path):
    with pytest.raises(FileExistsError, match="is not empty; give a new folder"):
        retrieve(full_pacs, files[0].parent)
    with pytest.raises(ValueError, match="given as series is no DICOM UID"):
        retrieve(full_pacs, tmp_path / "in", series="../1")
    assert not full_pacs.seen


def test_progress_is_told_of_each_object(full_pacs, files, tmp_path):
    told = []
    with connect(full_pacs) as web:
        web.retrieve(STUDY, SERIES, folder=tmp_path / "in", progress=lambda done, of: told.append((done, of)))
        web.store(files[:2], progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]


# ---- storing ---------------------------------------------------------------------------------------------------------


def test_files_are_stored_byte_for_byte_and_only_once(pacs, files):
    before = [path.read_bytes() for path in files]
    assert store(pacs, files).stored == tuple(files)
    again = store(pacs, files)
    assert (again.stored, again.present, again.failed) == ((), tuple(files), ())
    assert str(again) == "0 stored, 3 already there, 0 failed"
    assert pacs.asked("store") == 3
    assert sorted(data for _, data in pacs.objects.values()) == sorted(before)
    assert [path.read_bytes() for path in files] == before


def test_file_given_twice_is_stored_once(pacs, files):
    report = store(pacs, [files[0], str(files[0])])
    assert (report.stored, report.present) == ((files[0],), (files[0],))


@pytest.mark.parametrize("fault", [hang, cut, status(500), status(502), status(504)])
def test_object_that_arrived_before_the_answer_failed_is_not_sent_again(pacs, files, fault):
    pacs.faults["store"] += [after_storing(fault)]
    assert store(pacs, files[:1], timeout=SHORT if fault is hang else 5).stored == (files[0],)
    assert pacs.asked("store") == 1


@pytest.mark.parametrize("fault", [hang, cut, status(429), status(502), status(503), status(504)])
def test_object_that_did_not_arrive_is_sent_again(pacs, files, fault):
    pacs.faults["store"] += [fault]
    assert store(pacs, files[:1], timeout=SHORT if fault is hang else 5).stored == (files[0],)
    assert pacs.asked("store") == 2
    assert pacs.asked("instances") == 2, "asked before each attempt"


@pytest.mark.parametrize("code", [400, 401, 403, 409, 413, 415, 500])
def test_refused_object_is_not_sent_again_and_stays_on_disk(pacs, files, code):
    pacs.faults["store"] += [status(code, b"Doe^Secret")]
    report = store(pacs, files[:1])
    assert [path for path, _ in report.failed] == files[:1]
    assert f"it answered {code}" in reasons(report)[0]
    assert pacs.asked("store") == 1
    assert files[0].exists()


def test_success_that_stored_nothing_is_found_out(pacs, files):
    nothing = b'{"00081198": {"vr": "SQ"}, "00081199": {"vr": "SQ"}}'
    pacs.faults["store"] += [status(200, nothing), status(200), status(202), status(200, b"<xml/>")]
    report = store(pacs, [*files, files[0]])
    assert [reason.partition(": ")[0].partition(" answered ")[2] for reason in reasons(report)] == [
        "200 to the object but has not stored it.",
        "200 to the object but has not stored it.",
        "202 to the object for later, it may yet come.",
        "200 to the object but has not stored it.",
    ]


def test_object_of_which_the_reply_says_nothing_counts_as_stored_when_it_is_there(pacs, files):
    pacs.faults["store"] += [after_storing(status(200, b"<xml/>", content_type="application/dicom+xml"))]
    assert store(pacs, files[:1]).stored == (files[0],)


def test_reply_that_speaks_of_another_object_is_no_success(pacs, files):
    pacs.faults["store"] += [status(200, b'{"00081199": {"Value": [{"00081155": {"Value": ["1.2.3"]}}]}}')]
    assert "has not stored it" in reasons(store(pacs, files[:1]))[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0xA700, r"no space or memory left \(code A700\)"),
        (0xA900, r"does not fit its SOP class \(code A900\)"),
        (0x0122, "does not take this kind of object"),
        (0xC122, "does not take this transfer syntax"),
        (0xC000, "cannot understand it"),
        (0x0111, "says that it has it, and does not show it"),
        (1, r"does not explain \(code 0001\)"),
    ],
)
@pytest.mark.parametrize("answer", [200, 409])
def test_reason_of_a_failed_object_is_given_in_words(pacs, files, code, said, answer):
    failed = references("1.2.3", **{"00081197": {"vr": "US", "Value": [code]}})
    pacs.faults["store"] += [status(answer, json.dumps([{"00081198": failed}]).encode())]
    (reason,) = reasons(store(pacs, files[:1]))
    assert re.search(rf"refuses the object: .*{said}", reason)


def test_duplicate_that_the_server_names_counts_as_present(pacs, files):
    failed = references("1.2.3", **{"00081197": {"vr": "US", "Value": [0x0111]}})
    pacs.faults["store"] += [after_storing(status(409, json.dumps({"00081198": failed}).encode()))]
    assert store(pacs, files[:1]).present == (files[0],)


def test_server_that_ignores_the_filter_is_no_proof_that_an_object_is_there(pacs, files):
    pacs.faults["instances"] += [status(200, b'[{"00080018": {"Value": ["1.2.3"]}}]')]
    assert store(pacs, files[:1]).stored == (files[0],)


@pytest.mark.parametrize("code", [204, 404])
def test_server_that_knows_no_such_study_yet_gets_the_object(pacs, files, code):
    pacs.faults["instances"] += [status(code)]
    assert store(pacs, files[:1]).stored == (files[0],)


def test_after_a_failure_that_all_would_share_the_rest_is_not_tried(pacs, files):
    pacs.faults["store"] += [status(401)] * 3
    report = store(pacs, files)
    assert pacs.asked("store") == 1
    assert [path for path, _ in report.failed] == files
    assert reasons(report)[1].startswith("not tried after: the server")


def test_after_a_failure_of_one_object_the_rest_is_stored(pacs, files):
    pacs.faults["store"] += [status(409)]
    assert store(pacs, files).stored == tuple(files[1:])


def test_object_whose_fate_cannot_be_asked_is_not_sent_again(pacs, files):
    pacs.faults["store"] += [cut]
    pacs.faults["instances"] += [status(204), *[cut] * 3]
    report = store(pacs, files[:1])
    assert "could not be asked; storing again does not store it twice" in reasons(report)[0]
    assert pacs.asked("store") == 1
    assert store(pacs, files[:1]).stored == (files[0],)


def test_files_that_no_pacs_would_keep_are_not_sent(pacs, files, tmp_path):
    bare = tmp_path / "bare.dcm"
    bare.write_bytes(files[0].read_bytes()[132:])
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"Doe^Secret" * 50)
    without = write(image(make_volume()[0], StudyInstanceUID=""), tmp_path / "without.dcm")
    report = store(pacs, [tmp_path / "none.dcm", bare, junk, without, files[0]])
    assert report.stored == (files[0],)
    for reason, said in zip(
        reasons(report), ["no such file", "preamble", "cannot be parsed", "lacks a valid study"], strict=True
    ):
        assert said in reason
    assert pacs.asked("store") == 1


def test_unreadable_file_does_not_stop_the_others(pacs, files, monkeypatch):
    def refuse_first(path):
        if path == files[0]:
            raise PermissionError(13, "Permission denied", str(path))
        return FileMessage(path)

    monkeypatch.setattr("banet_monai.dicom.web.FileMessage", refuse_first)
    report = store(pacs, files)
    assert report.failed == ((files[0], "the file cannot be read (PermissionError)."),)
    assert report.stored == tuple(files[1:])
