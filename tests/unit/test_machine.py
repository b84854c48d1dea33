"""Threads share the cores, and memory is used again."""

import os
import platform
import subprocess
import sys
import threading

import pytest
import torch

from banet_monai.machine import helper_pool, in_parts, one_core, reuse_memory, single_threaded, worker_threads

LINUX = sys.platform == "linux"


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_a_batch_in_parts_comes_back_whole_and_in_order(four_threads):
    batch = torch.arange(7.0)[:, None]
    assert torch.equal(in_parts(lambda part: 10 * part, batch), 10 * batch)


@pytest.mark.parametrize(("images", "sizes", "cores"), [(7, [1, 2, 2, 2], 1), (4, [1, 1, 1, 1], 1), (2, [1, 1], 2)])
def test_the_threads_share_the_images_and_then_the_cores(four_threads, images, sizes, cores):
    seen = []
    together = threading.Barrier(len(sizes), timeout=20)

    def note(part):
        together.wait()  # passes only if all parts are worked on at the same time
        seen.append((len(part), torch.get_num_threads()))
        return part

    in_parts(note, torch.zeros(images, 1))
    assert sorted(seen) == [(size, cores) for size in sizes]


@pytest.mark.parametrize(("images", "device"), [(1, "cpu"), (4, "meta")])
def test_one_image_and_other_devices_are_done_in_one_piece(four_threads, images, device):
    seen = []
    in_parts(
        lambda part: seen.append((len(part), threading.current_thread())) or part, torch.zeros(images, 1, device=device)
    )
    assert seen == [(images, threading.current_thread())]


def test_one_thread_takes_the_whole_batch():
    seen = []
    with one_core():
        in_parts(lambda part: seen.append(len(part)) or part, torch.zeros(5, 1))
    assert seen == [5]


@pytest.mark.parametrize("inference", [True, False])
def test_parts_are_computed_without_gradients_and_in_the_inference_mode_of_the_caller(four_threads, inference):
    modes, weight = [], torch.ones(1, requires_grad=True)

    def note(part):
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return part * weight

    with torch.inference_mode(inference):
        result = in_parts(note, torch.ones(4, 1))
    assert set(modes) == {(inference, False)}
    assert not result.requires_grad


def test_the_error_of_a_part_reaches_the_caller(four_threads):
    def fail(part):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        in_parts(fail, torch.zeros(4, 1))


def test_a_thread_that_begins_later_computes_with_all_cores_again(four_threads):
    in_parts(lambda part: part, torch.zeros(4, 1))
    seen = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [4]


def test_one_core_holds_within_its_block_alone(four_threads):
    with one_core():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


def test_one_core_is_given_back_after_an_error(four_threads):
    with pytest.raises(KeyError, match="x"), one_core():
        raise KeyError("x")
    assert torch.get_num_threads() == 4


def test_a_helper_computes_with_one_core_and_the_caller_keeps_his(four_threads):
    with helper_pool(1, "help") as pool:
        assert pool.submit(single_threaded, torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == 4


@pytest.mark.skipif(not LINUX, reason="threads have priorities of their own on Linux alone")
def test_helpers_step_back_for_the_network():
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = niceness()
    with helper_pool(1, "help") as pool:
        assert pool.submit(niceness).result() == min(19, mine + 10)
    assert niceness() == mine


def test_settings_of_the_environment_win_over_ours(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert reuse_memory() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has mallopt")
def test_memory_that_large_tensors_give_back_is_used_again():
    # fresh pages are counted as faults: eight tensors of 16 MiB have 32,768 pages of 4 KiB
    code = (
        "import resource, torch\n"
        "from banet_monai.machine import reuse_memory\n"
        "assert reuse_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults()\n"  # of loading torch: 90,000 or more, as the system has it
        "for _ in range(8): kept = [torch.ones(4 * 2**20) for _ in range(8)]; del kept\n"
        "print(faults() - before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert 32_768 <= int(done.stdout) < 1.5 * 32_768  # once, not eight times


@pytest.mark.parametrize("wish", [1.7, "1.7", -1])
def test_threads_are_whole(wish):
    with pytest.raises(ValueError, match=r"'auto', or a whole number from 0 on, got"):
        worker_threads(wish)
    assert worker_threads("2.0") == 2
