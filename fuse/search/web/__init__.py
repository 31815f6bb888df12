"""The local web page of `m2hf app`; the only package that imports starlette."""
