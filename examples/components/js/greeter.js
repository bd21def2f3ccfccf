// The component that wit/greeter.wit describes. 64-bit integers are BigInts, an error is a thrown object.
import { log, lookup } from 'sandgrain:examples/host';

const MOST = 5;

// Names compare as UTF-8 bytes; JavaScript's own comparison is that of UTF-16.
const encoder = new TextEncoder();
function compareNames(a, b) {
  const [left, right] = [encoder.encode(a), encoder.encode(b)];
  for (let i = 0; i < left.length && i < right.length; i++) {
    if (left[i] !== right[i]) {
      return left[i] - right[i];
    }
  }
  return left.length - right.length;
}

export const greeter = {
  greet(name, options) {
    if (name === '') {
      throw { tag: 'empty-name' };
    }
    const times = options.times ?? 1;
    if (times > MOST) {
      throw { tag: 'too-many', val: MOST };
    }
    let text = `${lookup('greeting') ?? 'Hello'}, ${name}`;
    // Only ASCII letters: the languages differ in what they know of others.
    text = options.loud ? `${text.replace(/[a-z]/g, (letter) => letter.toUpperCase())}!` : `${text}.`;
    log(`greeted ${name}`);
    return Array(times).fill(text).join(' ');
  },

  statistics(numbers) {
    if (numbers.length === 0) {
      return undefined;
    }
    const sum = numbers.reduce((sum, number) => sum + number, 0);
    return {
      count: numbers.length,
      sum,
      mean: sum / numbers.length,
      smallest: numbers.reduce((a, b) => (b < a ? b : a)),
      largest: numbers.reduce((a, b) => (b > a ? b : a)),
    };
  },

  checksum(bytes) {
    let hash = 0x811c9dc5;
    for (const byte of bytes) {
      hash = Math.imul(hash ^ byte, 0x01000193);
    }
    return hash & 0x7fffffff;
  },

  sort(items, order) {
    const compare =
      order === 'by-name'
        ? (a, b) => compareNames(a.name, b.name)
        : (a, b) => (a.price < b.price ? -1 : a.price > b.price ? 1 : 0);
    return [...items].sort(compare);
  },

  total(items) {
    const marks = { fragile: false, heavy: false, fresh: false };
    let sum = 0n;
    for (const item of items) {
      sum += item.price;
      for (const mark of Object.keys(marks)) {
        marks[mark] ||= item.marks[mark];
      }
    }
    return [BigInt.asIntN(64, sum), marks];
  },

  divide(dividend, divisor) {
    // componentize-js 0.23 gives s64 parameters as if they were u64; those in records it gives right.
    dividend = BigInt.asIntN(64, dividend);
    divisor = BigInt.asIntN(64, divisor);
    if (divisor === 0n) {
      throw `${dividend} divided by zero`;
    }
    return [BigInt.asIntN(64, dividend / divisor), dividend % divisor];
  },
};
