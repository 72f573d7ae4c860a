"""A namespace that uses a bounded memory up loses its own values, and no other namespace loses any."""

from kimi_linear_operator.reconcile.fair_memory import FairMemory


def filled(most: int, *values: tuple[str, str]) -> FairMemory[str, str]:
    memory: FairMemory[str, str] = FairMemory(most, len)
    for number, (namespace, value) in enumerate(values):
        memory.put(namespace, f"{number}", value)
    return memory


def test_the_oldest_values_of_the_namespace_with_the_most_are_forgotten() -> None:
    memory = filled(8, ("a", "x"), ("b", "xx"), ("b", "xxx"), ("a", "xxx"))
    assert (memory.get("a", "0"), memory.keys("b"), memory.keys("a")) == ("x", ("2",), ("0", "3"))


def test_a_value_that_is_put_in_again_is_the_newest() -> None:
    memory = filled(3, ("a", "x"), ("a", "x"), ("a", "x"))
    memory.put("a", "0", "y")
    memory.put("a", "3", "x")
    assert memory.keys("a") == ("2", "0", "3")
    assert memory.get("a", "0") == "y"


def test_a_value_that_is_larger_than_all_room_is_not_kept() -> None:
    memory = filled(3, ("a", "xxxx"), ("b", "x"))
    assert (memory.namespaces, len(memory)) == (("b",), 1)


def test_the_memory_is_full_only_of_the_namespace_with_the_most() -> None:
    memory = filled(3, ("a", "x"), ("b", "x"))
    assert not memory.is_full_of("b")
    memory.put("b", "2", "x")
    assert (memory.is_full_of("b"), memory.is_full_of("a"), memory.is_full_of("c")) == (True, False, False)
    memory.forget("b", "2")
    assert not memory.is_full_of("b")


def test_nothing_is_left_of_values_that_are_forgotten() -> None:
    memory = filled(8, ("a", "x"), ("b", "xx"))
    memory.forget("a", "0")
    memory.forget("a", "0")
    assert (memory.namespaces, memory.get("a", "0"), memory.keys("a")) == (("b",), None, ())
    memory.clear()
    assert (memory.namespaces, len(memory), memory.is_full_of("b")) == ((), 0, False)
