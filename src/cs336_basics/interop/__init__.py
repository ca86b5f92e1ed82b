"""To and from other libraries; each file needs the library it names (extra `interop`)."""
