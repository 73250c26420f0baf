"""The demo model's weights load only as the pack came with them."""

import pytest
from longtake.backbone.demo import loader


@pytest.mark.parametrize("name", [f"{of}.safetensors" for of in ("vae", "video_model", "latent_rgb", "text")])
def test_weights_load_only_as_they_came(name, tmp_path, monkeypatch):
    """One changed byte is an error that names the file; weights in training have no digests and load."""
    load = {"vae": loader.load_vae, "text": loader.load_clip}.get(name.split(".")[0], loader.load_model)
    for path in loader.OWN.glob("*.safetensors"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = bytearray((loader.OWN / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    load()
    loader.write_digests(tmp_path)
    load()
    data[-1] ^= 1
    (tmp_path / name).write_bytes(data)
    changed = rf"{name} in the folder .* is not the file that {loader.DIGESTS} there names .*Assemble these"
    with pytest.raises(ValueError, match=changed):
        load()


@pytest.mark.parametrize(("of", "line"), [("other.safetensors", "{}  {}"), ("vae.safetensors", "no digest {} {}")])
def test_a_list_of_digests_that_does_not_name_a_file_is_an_error(of, line, tmp_path, monkeypatch):
    data = (loader.OWN / "vae.safetensors").read_bytes()
    (tmp_path / "vae.safetensors").write_bytes(data)
    (tmp_path / loader.DIGESTS).write_text(line.format(loader.digest(tmp_path / "vae.safetensors"), of) + "\n")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"vae.safetensors in the folder .* is not named in {loader.DIGESTS} there"):
        loader.load_vae()


def test_digests_are_read_as_any_sha256sum_writes_them(tmp_path, monkeypatch):
    data = (loader.OWN / "vae.safetensors").read_bytes()
    (tmp_path / "vae.safetensors").write_bytes(data)
    digest = loader.digest(tmp_path / "vae.safetensors")
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    for text_of in (f"{digest} *vae.safetensors\n", f"\ufeff{digest}  vae.safetensors\r\n"):
        (tmp_path / loader.DIGESTS).write_bytes(text_of.encode())
        loader.load_vae()
    (tmp_path / "vae.safetensors").unlink()
    (tmp_path / "vae.safetensors").mkdir()
    with pytest.raises(OSError, match="Demo Video Model: vae.safetensors in the folder .* cannot be read"):
        loader.load_vae()


def test_every_own_weight_file_has_a_digest(tmp_path, monkeypatch):
    named = (loader.OWN / loader.DIGESTS).read_text().split()[1::2]
    assert named == sorted(path.name for path in loader.OWN.glob("*.safetensors"))
    for name in named:
        (tmp_path / name).write_bytes((loader.OWN / name).read_bytes())
    monkeypatch.setattr(loader, "FOLDER", tmp_path)
    monkeypatch.setattr(loader, "OWN", tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"{loader.DIGESTS} is missing from .*Install the pack again"):
        loader.load_vae()
