from __future__ import annotations

import json
import os
import socket
import sys

import pytest

from banet_monai.label import (
    Application,
    Environment,
    ServerOptions,
    Studies,
    lay_out,
    require_free_port,
    server_command,
)


@pytest.fixture
def environment(tmp_path):
    """A folder with the parts of MONAI Label's installation that are copied."""
    stock = tmp_path / "environment" / "monailabel" / "sample-apps" / "monaibundle"
    (stock / "lib").mkdir(parents=True)
    (stock / "main.py").write_text("# stock\n")
    (stock / "lib" / "__init__.py").touch()
    return Environment(tmp_path / "environment", {"monailabel": "0.8.5"})


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "dist" / "banet_skin_lesion_segmentation"
    folder.mkdir(parents=True)
    return folder


def options_of(line):
    """``--conf`` pairs, and all other options by name."""
    conf, others = {}, {}
    words = iter(line[4:])
    for word in words:
        if word == "--conf":
            name = next(words)
            conf[name] = next(words)
        else:
            others[word] = next(words)
    return conf, others


def test_an_application_is_the_stock_one_with_ours_and_a_link_to_each_archive(tmp_path, environment, archive):
    application = lay_out(tmp_path / "app", environment, [archive])
    assert application == Application(tmp_path / "app", ("banet_skin_lesion_segmentation",))
    assert (tmp_path / "app" / "monaibundle_main.py").read_text() == "# stock\n"
    assert "class AnnotationApp" in (tmp_path / "app" / "main.py").read_text()
    assert "add_exception_handler" in (tmp_path / "app" / "banet_asgi.py").read_text()
    assert "class OwnPagesOnly" in (tmp_path / "app" / "banet_guard.py").read_text()
    assert (tmp_path / "app" / "lib" / "__init__.py").is_file()
    assert (tmp_path / "app" / "model" / archive.name).resolve() == archive


def test_laying_out_again_refreshes_files_and_links(tmp_path, environment, archive):
    lay_out(tmp_path / "app", environment, [archive])
    (tmp_path / "app" / "main.py").write_text("old")
    other = tmp_path / "other" / archive.name
    other.mkdir(parents=True)
    lay_out(tmp_path / "app", environment, [other])
    assert "class AnnotationApp" in (tmp_path / "app" / "main.py").read_text()
    assert (tmp_path / "app" / "model" / archive.name).resolve() == other


def test_two_archives_of_one_name_are_refused(tmp_path, environment, archive):
    with pytest.raises(ValueError, match="two archives are called 'banet_skin_lesion_segmentation'"):
        lay_out(tmp_path / "app", environment, [archive, tmp_path / "other" / archive.name])
    assert not (tmp_path / "app").exists()


def test_a_folder_with_other_files_is_not_taken(tmp_path, environment, archive):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "main.py").write_text("mine")
    with pytest.raises(
        FileExistsError, match=r"thesis' holds other files; name a folder that is empty or .*: --app DIR"
    ):
        lay_out(tmp_path / "thesis", environment, [archive])
    assert (tmp_path / "thesis" / "main.py").read_text() == "mine"


def test_a_folder_in_the_place_of_a_link_is_not_replaced(tmp_path, environment, archive):
    lay_out(tmp_path / "app", environment, [])
    (tmp_path / "app" / "model" / archive.name).mkdir()
    with pytest.raises(FileExistsError, match="is no link, and an archive of that name is to be linked there"):
        lay_out(tmp_path / "app", environment, [archive])


def test_an_installation_without_its_applications_is_refused(tmp_path, archive):
    with pytest.raises(FileNotFoundError, match="installation of MONAI Label is incomplete"):
        lay_out(tmp_path / "app", Environment(tmp_path / "nothing", {}), [archive])


def test_the_command_serves_the_models_offline_on_this_machine(tmp_path, environment):
    application = Application(tmp_path / "my app", ("one", "two"))
    line, _ = server_command(environment, application, Studies("/my studies", 3), ServerOptions(port=8001))
    assert line[:4] == [str(environment.python), "-m", "monailabel.main", "start_server"]
    conf, others = options_of(line)
    assert others == {
        "--app": str(tmp_path / "my app"),
        "--studies": "/my studies",
        "--host": "127.0.0.1",
        "--port": "8001",
        "--uvicorn_app": "banet_asgi:app",
    }
    assert (
        conf.items()
        >= {"models": "one,two", "zoo_source": "local", "sam2": "false", "epistemic_model": "one,two"}.items()
    )


def test_without_scoring_there_is_no_epistemic_model(tmp_path, environment):
    application, options = Application(tmp_path, ("one",)), ServerOptions(scoring=False)
    line, variables = server_command(environment, application, Studies("/studies", 3), options)
    conf, _ = options_of(line)
    assert conf == {"models": "one", "zoo_source": "local", "sam2": "false"}
    assert variables["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"


def test_the_servers_variables_name_programs_files_and_modality_and_yield_to_those_that_are_set(
    tmp_path, environment, monkeypatch
):
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", "/elsewhere")
    monkeypatch.setenv("PYTHONPATH", "/of/this/process")
    studies, options = Studies("http://pacs/dicom-web", None), ServerOptions(modality="XC")
    _, variables = server_command(environment, Application(tmp_path, ("one",)), studies, options)
    assert variables["PATH"].split(os.pathsep)[0] == str(environment.bin)
    assert variables["PYTHONPATH"] == str(tmp_path)
    assert json.loads(variables["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"]) == {"Modality": "XC"}
    assert {"*.png", "*.nii.gz", "*.dcm"} <= set(json.loads(variables["MONAI_LABEL_DATASTORE_FILE_EXT"]))
    assert variables["MONAI_LABEL_DICOMWEB_CACHE_PATH"] == "/elsewhere"


@pytest.mark.parametrize(("host", "names"), [("127.0.0.1", "127.0.0.1,localhost,::1"), ("0.0.0.0", None)])
def test_a_server_for_this_machine_is_asked_by_its_names_alone(tmp_path, environment, monkeypatch, host, names):
    def told():
        options = ServerOptions(host)
        return server_command(environment, Application(tmp_path, ("one",)), Studies("/s", 1), options)[1]

    assert told().get("BANET_LABEL_HOSTS") == names
    monkeypatch.setenv("BANET_LABEL_HOSTS", "label.hospital")
    assert told()["BANET_LABEL_HOSTS"] == "label.hospital"


def test_a_port_that_is_taken_is_refused_with_the_option_for_another():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} of 127\.0\.0\.1 is taken by another program; .*--port N"):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", port)


@pytest.mark.skipif(sys.platform == "win32", reason="ports below 1024 are free for all there")
def test_an_address_of_another_machine_is_refused():
    with pytest.raises(OSError, match=r"nothing can listen at port 8000 of 192\.0\.2\.1 \(.*\); choose another --host"):
        require_free_port("192.0.2.1", 8000)


def test_a_port_of_an_ipv6_address_is_looked_for_there():
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf"port {port} of ::1 is taken by another program"):
            require_free_port("::1", port)
    require_free_port("::1", port)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
