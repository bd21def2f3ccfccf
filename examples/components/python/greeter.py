"""The component that wit/greeter.wit describes. componentize-py makes wit_world of it."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.greeter import (
    GreetError_EmptyName,
    GreetError_TooMany,
    Item,
    Marks,
    Options,
    Order,
    Summary,
)
from wit_world.imports import host

MOST = 5


def upper(text: str) -> str:
    """Only ASCII letters: the languages differ in what they know of others."""
    return "".join(letter.upper() if "a" <= letter <= "z" else letter for letter in text)


def signed(number: int) -> int:
    """In 64 bits, as the other languages count."""
    return (number + 2**63) % 2**64 - 2**63


class Greeter(exports.Greeter):
    def greet(self, name: str, options: Options) -> str:
        if name == "":
            raise Err(GreetError_EmptyName())
        times = 1 if options.times is None else options.times
        if times > MOST:
            raise Err(GreetError_TooMany(MOST))
        greeting = host.lookup("greeting")
        text = f"{'Hello' if greeting is None else greeting}, {name}"
        text = f"{upper(text)}!" if options.loud else f"{text}."
        host.log(f"greeted {name}")
        return " ".join([text] * times)

    def statistics(self, numbers: list[float]) -> Summary | None:
        if not numbers:
            return None
        # sum() would be more exact than the other languages' loops are.
        total = 0.0
        for number in numbers:
            total += number
        return Summary(len(numbers), total, total / len(numbers), min(numbers), max(numbers))

    def checksum(self, bytes: bytes) -> int:
        value = 0x811C9DC5
        for byte in bytes:
            value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
        return value & 0x7FFFFFFF

    def sort(self, items: list[Item], order: Order) -> list[Item]:
        if order == Order.BY_NAME:
            return sorted(items, key=lambda item: item.name.encode())
        return sorted(items, key=lambda item: item.price)

    def total(self, items: list[Item]) -> tuple[int, Marks]:
        price, marks = 0, Marks(0)
        for item in items:
            price += item.price
            marks |= item.marks
        return signed(price), marks

    def divide(self, dividend: int, divisor: int) -> tuple[int, int]:
        if divisor == 0:
            raise Err(f"{dividend} divided by zero")
        quotient = abs(dividend) // abs(divisor)
        if (dividend < 0) != (divisor < 0):
            quotient = -quotient
        return signed(quotient), dividend - quotient * divisor
