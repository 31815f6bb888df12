"""Whether early fusion aligns a modality with the frames in time: the toybox's timing set."""
