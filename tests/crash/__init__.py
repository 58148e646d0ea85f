"""The crash proof: every event is stopped dead, fails, or loses its power at every file operation, and is looked at.

- `operations` puts itself between the product and the kernel and strikes at the N-th file operation;
- `scenes` is the table of what happens: how it is prepared, what is done, what must be there before and after;
- `pictures` takes down what a pool holds, and compares;
- `trial` runs a scene on a file system, strikes, and examines what is left by the numbered invariants;
- `power` cuts the power of a real file system;
- `bugs` breaks the product on purpose, to see that the proof notices.

`PYTHONPATH=tests python -m crash` runs all of it, test_crash_proof.py the quick part. See docs/reliability.md.
"""
