// Pipeline reads numbers from a file, squares them in several goroutines and prints a report:
// goroutines, channels, select, mutexes and timers on Go's own scheduler, the garbage collector,
// maps, sort, arguments, the environment and files. Without fmt, whose reflection costs 400 KiB.
//
//	pipeline FILE [OUTPUT]
package main

import (
	"bufio"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const workers = 4

func main() {
	if len(os.Args) < 2 {
		fail(2, "usage: pipeline FILE [OUTPUT]")
	}
	numbers, err := read(os.Args[1])
	if err != nil {
		fail(3, err.Error())
	}

	squares, signs := square(numbers)
	var report strings.Builder
	report.WriteString("owner: " + os.Getenv("OWNER") + "\n")
	report.WriteString("system: " + runtime.GOOS + "/" + runtime.GOARCH + "\n")
	for _, sign := range []string{"negative", "positive"} {
		report.WriteString(sign + ": " + strconv.Itoa(signs[sign]) + "\n")
	}
	report.WriteString("squares:")
	for _, square := range squares {
		report.WriteString(" " + strconv.Itoa(square))
	}
	report.WriteString("\n")
	os.Stdout.WriteString(report.String())

	// The scheduler sleeps in poll_oneoff until the timer is due.
	select {
	case <-time.After(time.Millisecond):
		os.Stdout.WriteString("timer: fired\n")
	case <-make(chan struct{}):
	}

	// Garbage of many times the size that is in use, from all goroutines at once.
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range 100 {
				_ = make([]byte, 256<<10)
				runtime.Gosched()
			}
		})
	}
	group.Wait()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	os.Stdout.WriteString("collected: " + strconv.FormatBool(memory.NumGC > 0) + "\n")

	if len(os.Args) > 2 {
		if err := os.WriteFile(os.Args[2], []byte(report.String()), 0o644); err != nil {
			fail(4, err.Error())
		}
		info, err := os.Stat(os.Args[2])
		if err != nil {
			fail(5, err.Error())
		}
		os.Stdout.WriteString("wrote " + strconv.FormatInt(info.Size(), 10) + " bytes\n")
	}
}

func read(path string) ([]int, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var numbers []int
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		number, err := strconv.Atoi(lines.Text())
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, number)
	}
	return numbers, lines.Err()
}

// square hands the numbers to the workers and collects what they send back, sorted: the order they
// come in is the scheduler's.
func square(numbers []int) (squares []int, signs map[string]int) {
	work, done := make(chan int), make(chan int)
	signs = map[string]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for number := range work {
				sign := "positive"
				if number < 0 {
					sign = "negative"
				}
				lock.Lock()
				signs[sign]++
				lock.Unlock()
				done <- number * number
			}
		})
	}
	go func() {
		for _, number := range numbers {
			work <- number
		}
		close(work)
		group.Wait()
		close(done)
	}()
	for square := range done {
		squares = append(squares, square)
	}
	sort.Ints(squares)
	return squares, signs
}

func fail(code int, message string) {
	os.Stderr.WriteString(message + "\n")
	os.Exit(code)
}
