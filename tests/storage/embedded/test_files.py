"""Writing small files in directories that may belong to somebody else."""

from storage.embedded.files import replace


def test_replacing_a_file_does_not_write_through_a_symlink(tmp_path):
    (tmp_path / "passwd").write_text("root")
    (tmp_path / "pg_hba.conf").symlink_to(tmp_path / "passwd")
    (tmp_path / "pg_hba.conf.new").symlink_to(tmp_path / "passwd")
    replace(tmp_path / "pg_hba.conf", b"local")
    assert (tmp_path / "passwd").read_text() == "root"
    assert (tmp_path / "pg_hba.conf").read_text() == "local"


def test_a_new_file_is_for_its_owner_alone(tmp_path):
    replace(tmp_path / "sockets", b"here")
    assert (tmp_path / "sockets").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["sockets"]
