"""How long lifecycle takes, beside what a person would use instead and beside the bare system calls.

How this works. A `Way` (ways.py) keeps one disk undoable by some means: the bare system calls of lifecycle's protocol,
its library and its command (ours.py), a shell script, qcow2, btrfs subvolumes (rivals.py). A topic (disk.py, pools.py)
sets some of them up on real file systems (places.py) and has them measured in turns (measuring.py), so that whatever
else the machine does meets all of them alike. What comes out are `Result`s and nothing else (results.py); bars.py,
tables.py and page.py are functions of those. README.md says how to add a way.

Nothing here passes or fails by time: it is measured and told.
"""
