//! A component's text: it passes its argument on to the host, and returns what that returns.

use super::types::Ty;
use std::fmt::Write;

/// One of WebAssembly's types.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Core {
    I32,
    I64,
    F32,
    F64,
}

impl Core {
    fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// The type that has room for both.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::I32, Self::F32) | (Self::F32, Self::I32) => Self::I32,
            _ => Self::I64,
        }
    }
}

/// Appends what a value of a type is as WebAssembly's values.
fn flatten(ty: &Ty, out: &mut Vec<Core>) {
    let mut cases = |cases: &[Option<&Ty>]| {
        out.push(Core::I32);
        let start = out.len();
        for case in cases.iter().flatten() {
            let mut flat = Vec::new();
            flatten(case, &mut flat);
            for (at, core) in flat.into_iter().enumerate() {
                match out.get_mut(start + at) {
                    Some(place) => *place = place.join(core),
                    None => out.push(core),
                }
            }
        }
    };
    match ty {
        Ty::S64 | Ty::U64 => out.push(Core::I64),
        Ty::F32 => out.push(Core::F32),
        Ty::F64 => out.push(Core::F64),
        Ty::String | Ty::List(_) => out.extend([Core::I32, Core::I32]),
        Ty::Record(types) | Ty::Tuple(types) => types.iter().for_each(|ty| flatten(ty, out)),
        Ty::Variant(list) => cases(&list.iter().map(Option::as_ref).collect::<Vec<_>>()),
        Ty::Option(of) => cases(&[Some(of)]),
        Ty::Result(ok, err) => cases(&[ok.as_deref(), err.as_deref()]),
        _ => out.push(Core::I32),
    }
}

/// Types' text, with definitions for those that must have names.
#[derive(Default)]
struct Definitions(Vec<String>);

impl Definitions {
    fn named(&mut self, text: String) -> String {
        self.0.push(text);
        format!("$t{}", self.0.len() - 1)
    }

    fn text(&mut self, ty: &Ty) -> String {
        let names = |count: usize| (0..count).map(|at| format!(" \"c{at}\"")).collect::<String>();
        match ty {
            Ty::List(element) => format!("(list {})", self.text(element)),
            Ty::Tuple(types) => {
                let types: Vec<String> = types.iter().map(|ty| self.text(ty)).collect();
                format!("(tuple {})", types.join(" "))
            }
            Ty::Option(of) => format!("(option {})", self.text(of)),
            Ty::Result(ok, err) => {
                let ok = ok.as_ref().map_or_else(String::new, |ty| format!(" {}", self.text(ty)));
                let err = err.as_ref();
                let err = err.map_or_else(String::new, |ty| format!(" (error {})", self.text(ty)));
                format!("(result{ok}{err})")
            }
            Ty::Record(types) => {
                let mut text = "(record".to_owned();
                for (at, ty) in types.iter().enumerate() {
                    let ty = self.text(ty);
                    write!(text, " (field \"f{at}\" {ty})").expect("a string");
                }
                self.named(text + ")")
            }
            Ty::Variant(cases) => {
                let mut text = "(variant".to_owned();
                for (at, ty) in cases.iter().enumerate() {
                    let ty = ty.as_ref().map_or_else(String::new, |ty| self.text(ty));
                    write!(text, " (case \"c{at}\" {ty})").expect("a string");
                }
                self.named(text + ")")
            }
            Ty::Enum(count) => self.named(format!("(enum{})", names(*count))),
            Ty::Flags(count) => self.named(format!("(flags{})", names(*count))),
            plain => format!("{plain:?}").to_lowercase(),
        }
    }
}

/// The component for a type, whose strings have this encoding: `utf8`, `utf16` or `latin1+utf16`.
pub fn component(ty: &Ty, encoding: &str) -> String {
    let mut definitions = Definitions::default();
    let ty_text = definitions.text(ty);
    let (mut exports, mut aliases) = (String::new(), String::new());
    for (at, text) in definitions.0.iter().enumerate() {
        writeln!(exports, "(type $t{at}' {text}) (export \"t{at}\" (type $t{at} (eq $t{at}')))")
            .expect("a string");
        writeln!(aliases, "(alias export $host \"t{at}\" (type $t{at}))").expect("a string");
    }
    let mut flat = Vec::new();
    flatten(ty, &mut flat);
    // More than 16 lie in memory, and so does more than one that is returned.
    let params = if flat.len() > 16 { vec![Core::I32] } else { flat.clone() };
    let names: Vec<&str> = params.iter().map(|core| core.name()).collect();
    let params_text = names.join(" ");
    let args: String = (0..params.len()).map(|at| format!("(local.get {at}) ")).collect();
    let (import, body, result) = match flat.as_slice() {
        [one] => {
            let result = one.name();
            (
                format!("(param {params_text}) (result {result})"),
                format!("(call $echo {args})"),
                result,
            )
        }
        _ => (
            format!("(param {params_text} i32)"),
            format!("(call $echo {args} (i32.const 1024)) (i32.const 1024)"),
            "i32",
        ),
    };
    let options = format!(
        "string-encoding={encoding} (memory (core memory $memory \"memory\")) \
         (realloc (core func $memory \"realloc\"))"
    );
    format!(
        r#"(component
    (import "test:random/host" (instance $host
        {exports}
        (export "echo" (func (param "x" {ty_text}) (result {ty_text})))))
    {aliases}
    (alias export $host "echo" (func $echo))
    (core module $memory
        (memory (export "memory") 4)
        (global $next (mut i32) (i32.const 196608))
        (func (export "reset") (param {result})
            (global.set $next (i32.const 196608)))
        (func (export "realloc") (param $old i32) (param $len i32) (param $align i32) (param $size i32)
            (result i32) (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.set $next (i32.add (local.get $at) (local.get $size)))
            (block $fits
                (br_if $fits (i32.le_u (global.get $next)
                    (i32.mul (memory.size) (i32.const 65536))))
                (drop (memory.grow (i32.add (i32.const 1)
                    (i32.div_u (local.get $size) (i32.const 65536))))))
            (if (i32.gt_u (local.get $len) (local.get $size))
                (then (local.set $len (local.get $size))))
            (memory.copy (local.get $at) (local.get $old) (local.get $len))
            (local.get $at)))
    (core instance $memory (instantiate $memory))
    (core func $echo' (canon lower (func $echo) {options}))
    (core module $code
        (import "host" "echo" (func $echo {import}))
        (func (export "echo") (param {params_text}) (result {result}) {body}))
    (core instance $code (instantiate $code (with "host" (instance (export "echo" (func $echo'))))))
    (func (export "echo") (param "x" {ty_text}) (result {ty_text})
        (canon lift (core func $code "echo") {options}
            (post-return (core func $memory "reset")))))"#
    )
}
