"""Reading ahead: in order, in few threads that stay, and no further than is asked for."""

from __future__ import annotations

import threading
import time

import pytest

from mammoscope.inference.ahead import AheadReader


def test_items_come_in_order_and_few_of_them_lie_ready():
    ahead, begun, most = AheadReader(2), [], []

    def read(number):
        begun.append(number)
        return number * 10

    for place, (number, future) in enumerate(ahead(read, range(20))):
        time.sleep(0.005)
        most.append(len(begun) - place)
        assert (number, future.result()) == (place, place * 10)
    assert len(most) == 20
    assert max(most) <= 3


def test_the_threads_are_the_same_from_one_exam_to_the_next():
    ahead, used = AheadReader(2), set()
    for _ in range(5):
        for _, future in ahead(lambda _: used.add(threading.get_ident()), range(8)):
            future.result()
    assert 1 <= len(used) <= 2


def test_what_goes_wrong_is_told_with_its_item_and_the_next_ones_are_read():
    def read(number):
        if number == 1:
            raise ValueError("broken")
        return number

    found = list(AheadReader(2)(read, range(4)))
    with pytest.raises(ValueError, match="broken"):
        found[1][1].result()
    assert [future.result() for number, future in found if number != 1] == [0, 2, 3]


def test_what_nobody_asks_for_any_more_is_not_begun():
    ahead, begun, free = AheadReader(2), [], threading.Event()

    def read(number):
        begun.append(number)
        free.wait(5)

    asked = ahead(read, range(10))
    next(asked)
    threading.Timer(0.05, free.set).start()
    asked.close()
    # What was begun has ended: its file may be removed.
    assert free.is_set()
    # Its threads are free again, and have gone on with nothing of that.
    (after,) = [future for _, future in ahead(lambda _: "after", [0])]
    assert after.result(5) == "after"
    assert len(begun) <= 2
