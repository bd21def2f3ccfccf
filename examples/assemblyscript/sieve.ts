// A module without WASI and without any import: only exported functions over plain numbers.
// Built with `--runtime incremental`, so objects are collected, and `--use abort=sieve/trap`, which
// turns AssemblyScript's one import, env.abort, into a trap.

// @ts-ignore: decorator
@unsafe
export function trap(message: string | null, file: string | null, line: u32, column: u32): void {
  unreachable();
}

/** How many primes there are below `limit`. */
export function primes(limit: i32): i32 {
  if (limit < 3) return 0;
  const composite = new Array<bool>(limit);
  let count = 0;
  for (let i = 2; i < limit; i++) {
    if (composite[i]) continue;
    count++;
    for (let j = <i64>i * i; j < limit; j += i) composite[<i32>j] = true;
  }
  return count;
}

/** How many of `size` x `size` points lie in the Mandelbrot set, after `rounds` rounds each. */
export function mandelbrot(size: i32, rounds: i32): i32 {
  let inside = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const cr = (3.0 * column) / size - 2.25;
      const ci = (2.5 * row) / size - 1.25;
      let r = 0.0, i = 0.0, round = 0;
      while (round < rounds && r * r + i * i <= 4.0) {
        const next = r * r - i * i + cr;
        i = 2.0 * r * i + ci;
        r = next;
        round++;
      }
      if (round == rounds) inside++;
    }
  }
  return inside;
}

/** The root of a number, by Newton's method: f64 in and out. */
export function root(square: f64): f64 {
  let guess = square;
  for (let i = 0; i < 64; i++) guess = (guess + square / guess) / 2.0;
  return guess;
}

/** Makes `count` strings and drops them: work for the collector. Their lengths, added up. */
export function churn(count: i32): i64 {
  let total: i64 = 0;
  for (let i = 0; i < count; i++) total += (i.toString() + ":" + (i * 7).toString()).length;
  return total;
}

/** Reads past the end of an array: AssemblyScript checks, and its abort is a trap. */
export function outOfBounds(index: i32): i32 {
  const few: i32[] = [1, 2, 3];
  return few[index];
}
