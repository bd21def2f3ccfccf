//! Host functions: what a guest may call of the host.

use crate::error::{BoxError, Error, ImportError};
use crate::typed::{WasmValue, WasmValues, func_type};
use sandgrain_abi::types::FuncType;
use sandgrain_abi::value::Value;
use sandgrain_abi::{DecodeError, Decoder, Encode, Encoder};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What a host function sees of the guest that called it.
pub struct Caller<'a> {
    memory: Option<&'a mut [u8]>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(memory: Option<&'a mut [u8]>) -> Self {
        Self { memory }
    }

    /// The linear memory that the calling module exports as `memory`, all of it. The guest stands
    /// still until the host function returns.
    ///
    /// # Errors
    /// When the module exports none.
    pub fn memory(&mut self) -> Result<&mut [u8], BoxError> {
        self.memory.as_deref_mut().ok_or_else(|| {
            "the calling module exports no memory named \"memory\"; it must, to pass bytes".into()
        })
    }

    /// The `len` bytes from `address` on in the caller's memory. Both are the guest's: checked here.
    ///
    /// # Errors
    /// When they do not lie within the memory, or the module exports none.
    pub fn bytes(&mut self, address: u32, len: u32) -> Result<&mut [u8], BoxError> {
        let memory = self.memory()?;
        let size = memory.len();
        let start = address as usize;
        start.checked_add(len as usize).and_then(|end| memory.get_mut(start..end)).ok_or_else(
            || format!("{len} bytes at {address} are outside a memory of {size} bytes").into(),
        )
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("memory", &self.memory.as_ref().map(|m| m.len())).finish()
    }
}

/// What a host function returns: values, or a `Result` of them. An error ends the guest's call and
/// arrives as [`Error::HostFunction`].
pub trait HostResult {
    /// The values.
    type Values: WasmValues;
    /// The result.
    ///
    /// # Errors
    /// The host function's own.
    fn into_result(self) -> Result<Self::Values, BoxError>;
}

impl<T: WasmValues> HostResult for T {
    type Values = T;
    fn into_result(self) -> Result<T, BoxError> {
        Ok(self)
    }
}

impl<T: WasmValues, E: Into<BoxError>> HostResult for Result<T, E> {
    type Values = T;
    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}

type Call = Box<dyn FnMut(&mut Caller<'_>, &[Value]) -> Result<Vec<Value>, BoxError> + Send>;

/// A closure that can be a host function: `FnMut(A, B, ...) -> R`, or with a [`Caller`] before the
/// arguments: `FnMut(&mut Caller, A, B, ...) -> R`.
pub trait IntoHostFunction<Marker>: Send + 'static {
    /// Its type in WebAssembly.
    fn func_type() -> FuncType;
    /// The function in the one form in which all are kept.
    fn into_call(self) -> Call;
}

/// Tells closures without a caller from those with one.
#[derive(Debug)]
pub struct WithCaller;

macro_rules! closures {
    ($(($($name:ident)*))*) => {$(
        impl<Closure, R, $($name),*> IntoHostFunction<(($($name,)*), R)> for Closure
        where
            Closure: FnMut($($name),*) -> R + Send + 'static,
            R: HostResult,
            $($name: WasmValue,)*
        {
            fn func_type() -> FuncType {
                func_type::<($($name,)*), R::Values>()
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_call(mut self) -> Call {
                Box::new(move |_, values| {
                    let ($($name,)*) = arguments::<($($name,)*)>(values)?;
                    self($($name),*).into_result().map(WasmValues::into_values)
                })
            }
        }

        impl<Closure, R, $($name),*> IntoHostFunction<(WithCaller, ($($name,)*), R)> for Closure
        where
            Closure: FnMut(&mut Caller<'_>, $($name),*) -> R + Send + 'static,
            R: HostResult,
            $($name: WasmValue,)*
        {
            fn func_type() -> FuncType {
                func_type::<($($name,)*), R::Values>()
            }

            #[allow(non_snake_case, reason = "the type's name serves for its value")]
            fn into_call(mut self) -> Call {
                Box::new(move |caller, values| {
                    let ($($name,)*) = arguments::<($($name,)*)>(values)?;
                    self(caller, $($name),*).into_result().map(WasmValues::into_values)
                })
            }
        }
    )*};
}

closures! {
    ()
    (A)
    (A B)
    (A B C)
    (A B C D)
    (A B C D E)
    (A B C D E F)
    (A B C D E F G)
    (A B C D E F G H)
}

/// The arguments as Rust's. The engine has checked their types; a guest that got around it gets an
/// error.
fn arguments<P: WasmValues>(values: &[Value]) -> Result<P, BoxError> {
    P::from_values(values).ok_or_else(|| "called with arguments of other types".into())
}

/// A host function that a guest has been linked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostImport {
    pub(crate) module: String,
    pub(crate) name: String,
    pub(crate) ty: FuncType,
}

impl Encode for HostImport {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.str(&self.module);
        out.str(&self.name);
        self.ty.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let (module, name) = <(String, String)>::decode(from)?;
        Ok(Self { module, name, ty: FuncType::decode(from)? })
    }
}

/// One host function.
pub(crate) struct HostFunction {
    pub(crate) ty: FuncType,
    call: Call,
}

/// The host functions that a sandbox is given.
#[derive(Default)]
pub(crate) struct HostFunctions {
    /// By their numbers. There are gaps where a snapshot has numbers that its guest does not use.
    functions: Vec<Option<(String, HostFunction)>>,
    numbers: HashMap<(String, String), usize>,
}

impl HostFunctions {
    /// Adds one, in place of an earlier one of the same name.
    pub(crate) fn add(&mut self, module: &str, name: &str, ty: FuncType, call: Call) {
        let number = self.functions.len();
        self.functions.push(Some((format!("{module}.{name}"), HostFunction { ty, call })));
        self.numbers.insert((module.to_owned(), name.to_owned()), number);
    }

    /// The number and type of one.
    pub(crate) fn find(&self, module: &str, name: &str) -> Option<(usize, &FuncType)> {
        let number = *self.numbers.get(&(module.to_owned(), name.to_owned()))?;
        let (_, function) = self.functions.get(number)?.as_ref()?;
        Some((number, &function.ty))
    }

    /// The same functions with those numbers that a guest knows them by; the others come after them.
    ///
    /// # Errors
    /// All that are missing, or have other types.
    pub(crate) fn numbered(
        mut self,
        wanted: &BTreeMap<u32, HostImport>,
    ) -> Result<Self, Vec<ImportError>> {
        let mut new = Self::default();
        let mut missing = Vec::new();
        for (number, import) in wanted {
            let problem = match self.find(&import.module, &import.name) {
                Some((at, ty)) if *ty == import.ty => {
                    let number = *number as usize;
                    new.functions.resize_with(number, || None);
                    new.functions.push(self.functions[at].take());
                    let name = (import.module.clone(), import.name.clone());
                    self.numbers.remove(&name);
                    new.numbers.insert(name, number);
                    continue;
                }
                Some((_, ty)) => {
                    format!("the snapshot's guest wants the type {}, this one is {ty}", import.ty)
                }
                None => "the snapshot's guest calls it; define it".to_owned(),
            };
            let import = Some((import.module.clone(), import.name.clone()));
            missing.push(ImportError { import, problem });
        }
        for (name, at) in self.numbers {
            new.numbers.insert(name, new.functions.len());
            new.functions.push(self.functions[at].take());
        }
        if missing.is_empty() { Ok(new) } else { Err(missing) }
    }

    /// Calls one, with what the guest sent.
    pub(crate) fn call(
        &mut self,
        number: usize,
        caller: &mut Caller<'_>,
        args: &[Value],
    ) -> Result<Vec<Value>, Error> {
        let Some((name, function)) = self.functions.get_mut(number).and_then(Option::as_mut) else {
            return Err(Error::Guest(format!("it called host function {number}, never given")));
        };
        let span = tracing::trace_span!("host_function", name);
        let _entered = span.enter();
        let failed = |source| Error::HostFunction { function: name.clone(), source };
        let results = (function.call)(caller, args).map_err(failed)?;
        let right = results.len() == function.ty.results.len()
            && results.iter().zip(&function.ty.results).all(|(value, ty)| value.is_a(*ty));
        if right {
            Ok(results)
        } else {
            let source = format!("it returned {results:?}, its type is {}", function.ty);
            Err(Error::HostFunction { function: name.clone(), source: source.into() })
        }
    }
}

impl fmt::Debug for HostFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter().flatten().map(|(name, _)| name)).finish()
    }
}
