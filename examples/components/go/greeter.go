// Package export_sandgrain_examples_greeter is the component that ../wit/greeter.wit describes.
// wit-bindgen makes the rest of the module, and wants this name.
package export_sandgrain_examples_greeter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"wit_component/sandgrain_examples_greeter"
	"wit_component/sandgrain_examples_host"

	. "go.bytecodealliance.org/pkg/wit/types"
)

type (
	Options    = sandgrain_examples_greeter.Options
	GreetError = sandgrain_examples_greeter.GreetError
	Summary    = sandgrain_examples_greeter.Summary
	Item       = sandgrain_examples_greeter.Item
	Marks      = sandgrain_examples_greeter.Marks
	Order      = sandgrain_examples_greeter.Order
)

const most = 5

func Greet(name string, options Options) Result[string, GreetError] {
	times := options.Times.SomeOr(1)
	if name == "" {
		return Err[string](sandgrain_examples_greeter.MakeGreetErrorEmptyName())
	}
	if times > most {
		return Err[string](sandgrain_examples_greeter.MakeGreetErrorTooMany(most))
	}
	text := sandgrain_examples_host.Lookup("greeting").SomeOr("Hello") + ", " + name
	if options.Loud {
		text = strings.Map(upper, text) + "!"
	} else {
		text += "."
	}
	sandgrain_examples_host.Log("greeted " + name)
	return Ok[string, GreetError](strings.Join(slices.Repeat([]string{text}, int(times)), " "))
}

// Only ASCII letters: the languages differ in what they know of others.
func upper(letter rune) rune {
	if 'a' <= letter && letter <= 'z' {
		return letter - 'a' + 'A'
	}
	return letter
}

func Statistics(numbers []float64) Option[Summary] {
	if len(numbers) == 0 {
		return None[Summary]()
	}
	sum := 0.0
	for _, number := range numbers {
		sum += number
	}
	return Some(Summary{
		Count:    uint32(len(numbers)),
		Sum:      sum,
		Mean:     sum / float64(len(numbers)),
		Smallest: slices.Min(numbers),
		Largest:  slices.Max(numbers),
	})
}

func Checksum(bytes []uint8) uint32 {
	hash := uint32(0x811c9dc5)
	for _, value := range bytes {
		hash = (hash ^ uint32(value)) * 0x01000193
	}
	return hash & 0x7fffffff
}

func Sort(items []Item, order Order) []Item {
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(a, b Item) int {
		if order == sandgrain_examples_greeter.Order_ByName {
			return strings.Compare(a.Name, b.Name)
		}
		return cmp.Compare(a.Price, b.Price)
	})
	return sorted
}

func Total(items []Item) (int64, Marks) {
	var sum int64
	var marks Marks
	for _, item := range items {
		sum += item.Price
		marks |= item.Marks
	}
	return sum, marks
}

func Divide(dividend, divisor int64) Result[Tuple2[int64, int64], string] {
	if divisor == 0 {
		return Err[Tuple2[int64, int64]](fmt.Sprintf("%d divided by zero", dividend))
	}
	return Ok[Tuple2[int64, int64], string](Tuple2[int64, int64]{F0: dividend / divisor, F1: dividend % divisor})
}
