"""Triton's interpreter, a third faster: what a launch has replaced is not replaced anew by every function it calls."""

import os


def _once() -> None:
    import triton.language as tl
    from triton.runtime import interpreter

    replace, nothing = interpreter._patch_lang, interpreter._LangPatchScope

    def replaced(fn):
        seen = [value for value in fn.__globals__.values() if value is tl or value is tl.core]
        is_new = not seen or any(tl.core.is_builtin(lang.load) for lang in seen)
        return replace(fn) if is_new else nothing()

    interpreter._patch_lang = replaced


if os.environ.get("TRITON_INTERPRET") == "1":
    _once()
