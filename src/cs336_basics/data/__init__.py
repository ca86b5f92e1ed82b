"""Data: token files on disk, and the batches a model is trained on.

`token_file` writes and maps token files, `sidecar` says what they hold, `sampler` says where the windows of
a step start (these import without torch), `batches` turns windows into tensors, `errors` holds this room's
one error.
"""
