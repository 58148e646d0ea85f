"""How long lifecycle takes, beside what a person would use instead and beside the bare system calls.

How this works. A `Way` (ways.py) keeps one disk undoable by some means: lifecycle's library and command (ours.py), the
bare system calls of the same protocol (floor.py), a shell script, qcow2, btrfs subvolumes (rivals.py). A topic
(disk.py, pools.py, crowds.py, processes.py) sets some of them up on real file systems (places.py) and lets the runner
measure them in turns (runner.py), so that whatever else the machine does meets all of them alike. What comes out are
`Result`s and nothing else; bars.py, growth.py, tables.py and plots.py are functions of those.

Nothing here passes or fails by time: it is measured and told.
"""
