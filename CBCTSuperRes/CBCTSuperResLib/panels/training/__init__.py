"""The panel of CBCTSuperResTraining, one file a section."""
