"""Files and folders of a run: complete or not there, checked before they are read or written."""
