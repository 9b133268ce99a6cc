"""The panel of CBCTSuperRes, one file a section; see `panel`."""
