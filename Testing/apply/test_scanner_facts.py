"""A look at a scan before it is computed: what a panel is told of the scanner."""

from __future__ import annotations

import json

from CBCTSuperResLib.acquisition.phantom import jaw_scans
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.scanner_facts import look_at, scanner_from
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.folder import default_model
from scans import make_scan


def test_a_look_tells_exactly_what_a_run_will_find_whatever_is_asked_for(tmp_path):
    _fine, scan = jaw_scans((24, 160, 160), 0.125, 7)
    path, card = scan.write(tmp_path / "scan.nrrd"), default_model()
    found = scanner_from(json.loads(json.dumps(look_at(path, card, Options(roi=((0, 9), (0, 9), (0, 2)), scale=3)))))
    scan = Volume.read(path)
    run = make_plan(scan.grid, scan.voxels.dtype, card, Options()).with_scan(scan)
    assert found == run.scanner and found.noise.sd > 0 and found.blur[1].sd is not None
    assert found.sentences(100.0) == run.scanner.sentences(100.0)


def test_a_scan_that_tells_nothing_can_be_looked_at(tmp_path):
    found = look_at(make_scan((2, 12, 12)).write(tmp_path / "scan.nrrd"), default_model(), Options())
    assert not scanner_from(json.loads(json.dumps(found))).in_plane_is_sure
