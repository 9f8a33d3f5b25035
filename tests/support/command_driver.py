"""Many commands in one process, since each import of torch and Coqui takes seconds."""

DRIVER = """
import contextlib, io, json, os, pathlib, sys, traceback
import coqui_scl_plugin.cli

for case in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    os.chdir(case["folder"])
    sys.argv = ["coqui-scl", *case["arguments"]]
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            coqui_scl_plugin.cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
    with open(case["results"], "a") as results:
        print(json.dumps([case["name"], status, out.getvalue(), err.getvalue()]), file=results)
"""
"""`python -c DRIVER CASES`: each case runs in its own `folder`, and its outcome is appended to its `results` at once,
so that one that ends the process is known.
"""
