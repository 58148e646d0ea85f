"""A template and a VM made from it: what the VM sees, and when it is outdated."""

from lifecycle import Pool, State
from support.disks import SIZE, cycle, disk, draw, seen, seen_by_vm


def test_a_vm_sees_its_template_as_it_was_until_both_have_moved_on(pool: Pool) -> None:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    pool.create_volume("work/root", source=template)
    vm, root = pool.vm("work"), pool["work/root"]

    # the template is being updated: the VM goes on with the old one, however often it starts
    vm.start()
    template.start()
    draw(template, b"trixie")
    assert seen_by_vm(root) == disk(b"debian")
    assert not root.outdated
    vm.stop()
    vm.start()
    assert seen_by_vm(root) == disk(b"debian")
    assert not root.outdated

    # the template has committed: the VM that runs still sees the old one, and is outdated
    assert template.stop().dest is State.COMMITTED
    assert seen(template) == disk(b"trixie")
    assert seen_by_vm(root) == disk(b"debian")
    assert root.outdated
    draw(root, b"writes", at=SIZE // 2)
    assert root.outdated

    # the VM has started again: it sees the new one
    vm.stop()
    assert not root.outdated
    vm.start()
    assert seen_by_vm(root) == disk(b"trixie")
    assert not root.outdated


def test_a_template_update_that_is_thrown_away_concerns_no_one(pool: Pool) -> None:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    root = pool.create_volume("work/root", source=template)
    root.start()
    template.start()
    draw(template, b"broken")
    template.stop(discard=True)

    assert not root.outdated
    root.stop()
    root.start()
    assert seen_by_vm(root) == disk(b"debian")


def test_a_template_that_is_reverted_outdates_too(pool: Pool) -> None:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    cycle(template, b"broken")
    root = pool.create_volume("work/root", source=template)
    root.start()
    template.revert()

    assert root.outdated
    root.stop()
    root.start()
    assert not root.outdated
    assert seen_by_vm(root) == disk(b"debian")
