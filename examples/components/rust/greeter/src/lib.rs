//! The component that `../../wit/greeter.wit` describes.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "greeter-component" });
    use super::Component;
    export!(Component);
}

use bindings::exports::sandgrain::examples::greeter::{
    GreetError, Guest, Item, Marks, Options, Order, Summary,
};
use bindings::sandgrain::examples::host;

const MOST: u32 = 5;

struct Component;

impl Guest for Component {
    fn greet(name: String, options: Options) -> Result<String, GreetError> {
        if name.is_empty() {
            return Err(GreetError::EmptyName);
        }
        let times = options.times.unwrap_or(1);
        if times > MOST {
            return Err(GreetError::TooMany(MOST));
        }
        let greeting = host::lookup("greeting").unwrap_or_else(|| "Hello".to_owned());
        let mut text = format!("{greeting}, {name}");
        if options.loud {
            // Only ASCII letters: the languages differ in what they know of others.
            text.make_ascii_uppercase();
            text.push('!');
        } else {
            text.push('.');
        }
        host::log(&format!("greeted {name}"));
        Ok(vec![text; times as usize].join(" "))
    }

    fn statistics(numbers: Vec<f64>) -> Option<Summary> {
        let first = *numbers.first()?;
        let sum = numbers.iter().fold(0.0, |sum, number| sum + number);
        let count = numbers.len() as u32;
        Some(Summary {
            count,
            sum,
            mean: sum / f64::from(count),
            smallest: numbers.iter().copied().fold(first, f64::min),
            largest: numbers.iter().copied().fold(first, f64::max),
        })
    }

    fn checksum(bytes: Vec<u8>) -> u32 {
        let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        bytes.iter().fold(0x811c_9dc5, step) & 0x7fff_ffff
    }

    fn sort(mut items: Vec<Item>, order: Order) -> Vec<Item> {
        match order {
            Order::ByName => items.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::ByPrice => items.sort_by_key(|item| item.price),
        }
        items
    }

    fn total(items: Vec<Item>) -> (i64, Marks) {
        items.iter().fold((0, Marks::empty()), |(sum, marks), item| {
            (item.price.wrapping_add(sum), marks | item.marks)
        })
    }

    fn divide(dividend: i64, divisor: i64) -> Result<(i64, i64), String> {
        if divisor == 0 {
            return Err(format!("{dividend} divided by zero"));
        }
        Ok((dividend.wrapping_div(divisor), dividend.wrapping_rem(divisor)))
    }
}
