"""The only package that imports tensorrt or tensorrt_rtx: network definition, plan, interpreter, runner."""
