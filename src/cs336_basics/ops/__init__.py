"""Pure functions over tensors: the specification of every component. Import them by file, `ops.norm.rms_norm`."""
