"""The local page of `m2hf app`; the only place with starlette."""
