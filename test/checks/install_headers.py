"""Run by `meson install`: copies the public headers, and what of detail/ these include, to include/torsion/."""
import os
import pathlib
import shutil

from tree import ROOT, public_headers

target = pathlib.Path(os.environ["MESON_INSTALL_DESTDIR_PREFIX"], "include", "torsion")
for header in public_headers():
    (target / header).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / header, target / header)
