# make demo   set everything up and super-resolve a procedural scan
# make test   set everything up and run all tests
# make bench  set everything up and run the benchmarks
# make bench-quality   measure the shipped models against cubic interpolation; PUBLIC=FOLDER with the public scans
# make lint   style

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test bench bench-quality lint clean

demo: $(READY)
	$(RUN) -m CBCTSuperResLib.demo --out demo-output

test: $(READY)
	$(RUN) -m pytest Testing -n 2 -q -rs

bench: $(READY)
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[benchmark]'
	$(RUN) Testing/benchmarks/run.py all

bench-quality: $(READY)
	$(RUN) Testing/grading light adaptive unetspsr-light --out graded $(if $(PUBLIC),--public-data "$(PUBLIC)")
	$(RUN) Testing/grading/blur_and_noise.py light adaptive --cells some --out graded/blur-and-noise $(if $(PUBLIC),--public-data "$(PUBLIC)")
	$(RUN) Testing/grading/thick_slices.py any-size --planes light --quick --edge 72 --out graded/thick-slices $(if $(PUBLIC),--public-data "$(PUBLIC)")
	$(RUN) Testing/grading/scanner_estimates.py --quick --out graded/scanner-estimates $(if $(PUBLIC),--public-data "$(PUBLIC)")

lint: $(READY)
	$(VENV)/bin/ruff check .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; choose it with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -c constraints.txt torch
	$(VENV)/bin/pip install -q -c constraints.txt -e '.[slicer,pictures,training,cluster,fast,test,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build demo-output graded *.egg-info
