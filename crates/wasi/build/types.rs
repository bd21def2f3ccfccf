//! How values of a type are read and written, and what the type looks like.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use wit_parser::{Handle, Resolve, Type, TypeDef, TypeDefKind, TypeId};

use crate::names;

/// The Rust code for types. What types with names need is generated once each.
pub struct Types<'a> {
    resolve: &'a Resolve,
    /// The resource types in the order of their numbers.
    pub resources: Vec<TypeId>,
    done: BTreeSet<String>,
    pub code: String,
}

impl<'a> Types<'a> {
    pub fn new(resolve: &'a Resolve) -> Self {
        Self { resolve, resources: Vec::new(), done: BTreeSet::new(), code: String::new() }
    }

    /// The type that an alias stands for in the end.
    pub fn resolved(&self, mut id: TypeId) -> TypeId {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        id
    }

    fn def(&self, id: TypeId) -> &'a TypeDef {
        &self.resolve.types[self.resolved(id)]
    }

    /// The number of a resource type.
    pub fn resource(&self, id: TypeId) -> usize {
        let id = self.resolved(id);
        self.resources.iter().position(|known| *known == id).expect("it is an imported resource")
    }

    /// An expression for a value that is read from `from`.
    pub fn lift(&mut self, ty: &Type) -> String {
        if let Some(rust) = plain(ty) {
            return format!("<{rust} as Lift>::lift(from)?");
        }
        let Type::Id(id) = ty else { panic!("WASI 0.2 has no {ty:?}") };
        let def = self.def(*id);
        match &def.kind {
            TypeDefKind::Type(ty) => self.lift(ty),
            TypeDefKind::Handle(Handle::Own(_)) => "Resource::new_own(from.handle()?)".into(),
            TypeDefKind::Handle(Handle::Borrow(_)) => "Resource::new_borrow(from.handle()?)".into(),
            TypeDefKind::List(element) => match run(element) {
                Some(rust) => format!("<Vec<{rust}> as Lift>::lift(from)?"),
                None => format!("lift_list(from, |from| Ok({}))?", self.lift(element)),
            },
            TypeDefKind::Option(of) => {
                format!("if from.bool()? {{ Some({}) }} else {{ None }}", self.lift(of))
            }
            TypeDefKind::Result(result) => {
                let ok = self.lift_payload(result.ok.as_ref());
                let err = self.lift_payload(result.err.as_ref());
                format!("if from.bool()? {{ Err({err}) }} else {{ Ok({ok}) }}")
            }
            TypeDefKind::Tuple(tuple) => {
                let items: Vec<String> = tuple.types.iter().map(|ty| self.lift(ty)).collect();
                format!("({},)", items.join(", "))
            }
            _ => {
                let name = names::unique(self.resolve, def);
                self.define_lift(def, &name);
                format!("lift_{name}(from)?")
            }
        }
    }

    fn lift_payload(&mut self, ty: Option<&Type>) -> String {
        ty.map_or("()".to_owned(), |ty| self.lift(ty))
    }

    fn define_lift(&mut self, def: &TypeDef, name: &str) {
        if !self.done.insert(format!("lift_{name}")) {
            return;
        }
        let path = names::path(self.resolve, def);
        let body = match &def.kind {
            TypeDefKind::Record(record) => {
                let mut fields = String::new();
                for field in &record.fields {
                    let value = self.lift(&field.ty);
                    write!(fields, "{}: {value}, ", names::snake(&field.name)).unwrap();
                }
                format!("Ok({path} {{ {fields}}})")
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = String::new();
                for (number, case) in variant.cases.iter().enumerate() {
                    let payload = case.ty.as_ref().map(|ty| format!("({})", self.lift(ty)));
                    let (case, payload) = (names::camel(&case.name), payload.unwrap_or_default());
                    writeln!(cases, "{number} => Ok({path}::{case}{payload}),").unwrap();
                }
                format!(
                    "match from.u32()? {{\n{cases}_ => Err(from.error(\"a case of {}\")),\n}}",
                    names::name(def)
                )
            }
            TypeDefKind::Enum(cases) => {
                let names = cases.cases.iter().enumerate();
                let cases: String = names
                    .map(|(number, case)| {
                        format!("{number} => Ok({path}::{}),\n", names::camel(&case.name))
                    })
                    .collect();
                format!(
                    "match from.u32()? {{\n{cases}_ => Err(from.error(\"a case of {}\")),\n}}",
                    names::name(def)
                )
            }
            TypeDefKind::Flags(flags) => {
                let mut body = format!("let mut value = {path}::empty();\n");
                for flags in flags.flags.chunks(8) {
                    body.push_str("let bits = from.u8()?;\n");
                    if flags.len() < 8 {
                        let message = format!("flags of {}", names::name(def));
                        writeln!(
                            body,
                            "if bits >> {} != 0 {{ return Err(from.error({message:?})); }}",
                            flags.len()
                        )
                        .unwrap();
                    }
                    for (bit, flag) in flags.iter().enumerate() {
                        let flag = names::shouty(&flag.name);
                        writeln!(body, "if bits >> {bit} & 1 == 1 {{ value |= {path}::{flag}; }}")
                            .unwrap();
                    }
                }
                body + "Ok(value)"
            }
            kind => panic!("WASI 0.2 takes no {}", kind.as_str()),
        };
        write!(
            self.code,
            "fn lift_{name}(from: &mut Reader<'_>) -> Result<{path}, DecodeError> {{\n{body}\n}}\n\n"
        )
        .unwrap();
    }

    /// Statements that check the handles in the variable `value`, a reference; none for a type without any.
    pub fn check(&self, ty: &Type) -> Option<String> {
        let Type::Id(id) = ty else { return None };
        match &self.def(*id).kind {
            TypeDefKind::Type(ty) => self.check(ty),
            TypeDefKind::Handle(_) => Some("check(&state.table, value)?;".into()),
            TypeDefKind::List(ty) => {
                let each = self.check(ty)?;
                Some(format!("for value in value {{ {each} }}"))
            }
            TypeDefKind::Option(ty) => {
                let some = self.check(ty)?;
                Some(format!("if let Some(value) = value {{ {some} }}"))
            }
            TypeDefKind::Result(result) => {
                assert!(result.err.is_none_or(|ty| self.check(&ty).is_none()));
                let ok = self.check(result.ok.as_ref()?)?;
                Some(format!("if let Ok(value) = value {{ {ok} }}"))
            }
            TypeDefKind::Tuple(tuple) => {
                assert!(tuple.types.iter().all(|ty| self.check(ty).is_none()));
                None
            }
            TypeDefKind::Record(record) => {
                assert!(record.fields.iter().all(|field| self.check(&field.ty).is_none()));
                None
            }
            TypeDefKind::Variant(variant) => {
                let mut types = variant.cases.iter().filter_map(|case| case.ty);
                assert!(types.all(|ty| self.check(&ty).is_none()));
                None
            }
            _ => None,
        }
    }

    /// Statements that write the variable `value` to `out`.
    pub fn lower(&mut self, ty: &Type) -> String {
        if plain(ty).is_some() {
            return "Lower::lower(&value, out);".into();
        }
        let Type::Id(id) = ty else { panic!("WASI 0.2 has no {ty:?}") };
        let def = self.def(*id);
        match &def.kind {
            TypeDefKind::Type(ty) => self.lower(ty),
            TypeDefKind::Handle(_) => "out.u32(value.rep());".into(),
            TypeDefKind::List(Type::U8) => "out.owned_run(value);".into(),
            TypeDefKind::List(element) if run(element).is_some() => {
                "Lower::lower(&value, out);".into()
            }
            TypeDefKind::List(element) => {
                let each = self.lower(element);
                format!("out.count(value.len());\nfor value in value {{ {each} }}")
            }
            TypeDefKind::Option(of) => {
                let some = self.lower(of);
                format!(
                    "out.u8(u8::from(value.is_some()));\nif let Some(value) = value {{ {some} }}"
                )
            }
            TypeDefKind::Result(result) => {
                let ok = self.lower_payload("Ok", result.ok.as_ref());
                let err = self.lower_payload("Err", result.err.as_ref());
                format!("out.u8(u8::from(value.is_err()));\nmatch value {{\n{ok}{err}}}")
            }
            TypeDefKind::Tuple(tuple) => {
                let items: Vec<String> =
                    (0..tuple.types.len()).map(|at| format!("item{at}")).collect();
                let mut code = format!("let ({},) = value;\n", items.join(", "));
                for (item, ty) in items.iter().zip(&tuple.types) {
                    let each = self.lower(ty);
                    writeln!(code, "{{ let value = {item}; {each} }}").unwrap();
                }
                code
            }
            _ => {
                let name = names::unique(self.resolve, def);
                self.define_lower(def, &name);
                format!("lower_{name}(value, out);")
            }
        }
    }

    fn lower_payload(&mut self, case: &str, ty: Option<&Type>) -> String {
        match ty {
            Some(ty) => format!("{case}(value) => {{ {} }}\n", self.lower(ty)),
            None => format!("{case}(()) => {{}}\n"),
        }
    }

    fn define_lower(&mut self, def: &TypeDef, name: &str) {
        if !self.done.insert(format!("lower_{name}")) {
            return;
        }
        let path = names::path(self.resolve, def);
        let body = match &def.kind {
            TypeDefKind::Record(record) => {
                let mut body = String::new();
                for field in &record.fields {
                    let (field, write) = (names::snake(&field.name), self.lower(&field.ty));
                    writeln!(body, "{{ let value = value.{field}; {write} }}").unwrap();
                }
                body
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = String::new();
                for (number, case) in variant.cases.iter().enumerate() {
                    let name = names::camel(&case.name);
                    match &case.ty {
                        Some(ty) => {
                            let write = self.lower(ty);
                            writeln!(
                                cases,
                                "{path}::{name}(value) => {{ out.u32({number}); {write} }}"
                            )
                        }
                        None => writeln!(cases, "{path}::{name} => out.u32({number}),"),
                    }
                    .unwrap();
                }
                format!("match value {{\n{cases}}}")
            }
            TypeDefKind::Enum(cases) => {
                let mut code = String::new();
                for (number, case) in cases.cases.iter().enumerate() {
                    let name = names::camel(&case.name);
                    writeln!(code, "{path}::{name} => {number},").unwrap();
                }
                format!("out.u32(match value {{\n{code}}});")
            }
            TypeDefKind::Flags(flags) => {
                let mut body = String::new();
                for flags in flags.flags.chunks(8) {
                    let bits = flags.iter().enumerate().map(|(bit, flag)| {
                        let flag = names::shouty(&flag.name);
                        format!("u8::from(value.contains({path}::{flag})) << {bit}")
                    });
                    let bits: Vec<String> = bits.collect();
                    writeln!(body, "out.u8({});", bits.join(" | ")).unwrap();
                }
                body
            }
            kind => panic!("WASI 0.2 returns no {}", kind.as_str()),
        };
        write!(self.code, "fn lower_{name}(value: {path}, out: &mut Writer) {{\n{body}\n}}\n\n")
            .unwrap();
    }

    /// An expression for what the type looks like.
    pub fn shape(&mut self, ty: &Type) -> String {
        let Type::Id(id) = ty else {
            let name = format!("{ty:?}");
            return format!("Shape::Plain(Type::{name})");
        };
        let def = self.def(*id);
        match &def.kind {
            TypeDefKind::Type(ty) => self.shape(ty),
            TypeDefKind::Handle(Handle::Own(id)) => format!("Shape::Own({})", self.resource(*id)),
            TypeDefKind::Handle(Handle::Borrow(id)) => {
                format!("Shape::Borrow({})", self.resource(*id))
            }
            TypeDefKind::List(element) => format!("Shape::List(&{})", self.shape(element)),
            TypeDefKind::Option(of) => format!("Shape::Option(&{})", self.shape(of)),
            TypeDefKind::Result(result) => {
                let ok = self.shape_payload(result.ok.as_ref());
                let err = self.shape_payload(result.err.as_ref());
                format!("Shape::Result({ok}, {err})")
            }
            TypeDefKind::Tuple(tuple) => {
                let items: Vec<String> = tuple.types.iter().map(|ty| self.shape(ty)).collect();
                format!("Shape::Tuple(&[{}])", items.join(", "))
            }
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                let fields = fields.map(|f| format!("({:?}, {})", f.name, self.shape(&f.ty)));
                let fields: Vec<String> = fields.collect();
                format!("Shape::Record(&[{}])", fields.join(", "))
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                let cases =
                    cases.map(|c| format!("({:?}, {})", c.name, self.shape_payload(c.ty.as_ref())));
                let cases: Vec<String> = cases.collect();
                format!("Shape::Variant(&[{}])", cases.join(", "))
            }
            TypeDefKind::Enum(cases) => {
                let names: Vec<&String> = cases.cases.iter().map(|case| &case.name).collect();
                format!("Shape::Enum(&{names:?})")
            }
            TypeDefKind::Flags(flags) => {
                let names: Vec<&String> = flags.flags.iter().map(|flag| &flag.name).collect();
                format!("Shape::Flags(&{names:?})")
            }
            kind => panic!("WASI 0.2 has no {}", kind.as_str()),
        }
    }

    fn shape_payload(&mut self, ty: Option<&Type>) -> String {
        ty.map_or("None".to_owned(), |ty| format!("Some(&{})", self.shape(ty)))
    }
}

/// The Rust type of a number, a boolean, a character or a string.
fn plain(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::Bool => "bool",
        Type::Char => "char",
        Type::String => "String",
        number => return run(number),
    })
}

/// The Rust type of a number. A list of them travels as a run of bytes.
fn run(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::U8 => "u8",
        Type::S8 => "i8",
        Type::U16 => "u16",
        Type::S16 => "i16",
        Type::U32 => "u32",
        Type::S32 => "i32",
        Type::U64 => "u64",
        Type::S64 => "i64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        _ => return None,
    })
}
