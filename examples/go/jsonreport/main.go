// Jsonreport reads numbers from a file, one a line, and prints what it found as JSON: fmt, reflection
// and encoding/json, there and back. `-panic` panics, which in Go is exit code 2.
//
//	jsonreport FILE [-panic]
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
)

type report struct {
	Owner   string             `json:"owner"`
	Numbers []int              `json:"numbers"`
	Stats   map[string]float64 `json:"stats"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: jsonreport FILE [-panic]")
		os.Exit(2)
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}

	first := report{Owner: os.Getenv("OWNER"), Stats: map[string]float64{}}
	for line := range bytes.Lines(text) {
		var number int
		if _, err := fmt.Sscan(string(line), &number); err != nil {
			fmt.Fprintf(os.Stderr, "%q: %v\n", line, err)
			os.Exit(4)
		}
		first.Numbers = append(first.Numbers, number)
		first.Stats["sum"] += float64(number)
	}
	slices.Sort(first.Numbers)
	first.Stats["mean"] = first.Stats["sum"] / float64(len(first.Numbers))

	written, err := json.MarshalIndent(first, "", "  ")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", written)

	var second report
	if err := json.Unmarshal(written, &second); err != nil {
		panic(err)
	}
	fmt.Println("read back the same:", reflect.DeepEqual(first, second))

	if len(os.Args) > 2 && os.Args[2] == "-panic" {
		var none *report
		fmt.Println(none.Owner)
	}
}
