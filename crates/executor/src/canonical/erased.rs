//! Types that stand for whatever a function takes or returns.
//!
//! The engine calls functions with types that are known when it is compiled. These are such types, one for each
//! number of WebAssembly's values that arguments and results can be; what the values mean they learn when they
//! are lifted or lowered, from the component's own types.
#![allow(
    unsafe_code,
    reason = "the engine's traits for types that pass the boundary are unsafe to implement"
)]

use super::lift::lift;
use super::lower::{Input, lower};
use super::{AtReturn, InCall, Lifted, Lowered, MAX_FLAT_PARAMS, MAX_FLAT_RESULTS, Source, Target};
use crate::Embedder;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower};
use wasmtime::{Error, Result, ValRaw};

/// What a component passes to a function of the host, as so many of WebAssembly's values. With more than
/// [`MAX_FLAT_PARAMS`] they lie in linear memory, and `N` is of no meaning.
pub(crate) struct HostArguments<E, const N: usize>(pub(crate) Lifted, PhantomData<fn() -> E>);

/// What a function of the host returns, as so many of WebAssembly's values: none, one, or, where there are more,
/// in linear memory, and `N` is of no meaning.
pub(crate) struct HostResult<E, const N: usize>(pub(crate) Lowered, PhantomData<fn() -> E>);

/// What a component's function is called with.
pub(crate) struct Arguments<E>(pub(crate) Lowered, PhantomData<fn() -> E>);

/// What a component's function has returned.
pub(crate) struct Returned<E>(pub(crate) Lifted, PhantomData<fn() -> E>);

impl<E, const N: usize> HostResult<E, N> {
    pub(crate) fn new(lowered: Lowered) -> Self {
        Self(lowered, PhantomData)
    }
}

impl<E> Arguments<E> {
    pub(crate) fn new(lowered: Lowered) -> Self {
        Self(lowered, PhantomData)
    }
}

/// What the engine writes, or does not, over a value.
pub(super) fn written<T: Copy>(
    before: T,
    write: impl FnOnce(&mut MaybeUninit<T>) -> Result<()>,
) -> Result<T> {
    let mut value = MaybeUninit::new(before);
    write(&mut value)?;
    // SAFETY: it was initialised, and the engine initialises what it is to write.
    Ok(unsafe { value.assume_init() })
}

/// How many of WebAssembly's values a function's parameters or results are; `None` if they lie in memory.
fn flat_count(ty: &InterfaceType, types: &InstanceType<'_>, most: usize) -> Option<usize> {
    types.types.canonical_abi(ty).flat_count(most)
}

fn check_count(found: Option<usize>, expected: usize) -> Result<()> {
    match found {
        Some(count) if count != expected => {
            Err(Error::msg(alloc::format!("{count} values, of which the host expects {expected}")))
        }
        _ => Ok(()),
    }
}

// SAFETY: `Lower` is as many of WebAssembly's values as the parameters are, which `typecheck` makes sure of; that
// they are of the component's types is by construction, since those say how they are read. In linear memory
// the engine checks by the component's own type that the arguments lie within it, not by `ABI`, which is
// only used for an empty slice that begins where they do.
unsafe impl<E: Embedder, const N: usize> ComponentType for HostArguments<E, N> {
    type Lower = [ValRaw; N];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        check_count(flat_count(ty, types, MAX_FLAT_PARAMS), N)
    }
}

// SAFETY: nothing is asked of a list of parameters beyond what `ComponentType` promises.
unsafe impl<E: Embedder, const N: usize> ComponentNamedList for HostArguments<E, N> {}

// SAFETY: both functions read the values with the engine's own checks, by the type that they are given.
unsafe impl<E: Embedder, const N: usize> Lift for HostArguments<E, N> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        from: &[ValRaw; N],
    ) -> Result<Self> {
        let mut out = Lifted::default();
        lift::<InCall<E>>(cx, ty, Source::Flat(&mut from.iter()), &mut out)?;
        Ok(Self(out, PhantomData))
    }

    fn linear_lift_from_memory(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        bytes: &[u8],
    ) -> Result<Self> {
        // The slice is within memory: where it begins is what it tells.
        let at = bytes.as_ptr().addr() - cx.memory().as_ptr().addr();
        let mut out = Lifted::default();
        lift::<InCall<E>>(cx, ty, Source::Memory(at), &mut out)?;
        Ok(Self(out, PhantomData))
    }
}

// SAFETY: as for `HostArguments`; results in linear memory are written where the engine says, which has checked by the
// component's own type that there is room.
unsafe impl<E: Embedder, const N: usize> ComponentType for HostResult<E, N> {
    type Lower = [ValRaw; N];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        check_count(flat_count(ty, types, MAX_FLAT_RESULTS), N)
    }
}

// SAFETY: nothing is asked of a list of results beyond what `ComponentType` promises.
unsafe impl<E: Embedder, const N: usize> ComponentNamedList for HostResult<E, N> {}

// SAFETY: all of `to` is initialised, and memory is written to within its bounds only.
unsafe impl<E: Embedder, const N: usize> Lower for HostResult<E, N> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        to: &mut MaybeUninit<[ValRaw; N]>,
    ) -> Result<()> {
        let mut values = [ValRaw::u64(0); N];
        let target = Target::Flat(&mut values.iter_mut());
        lower::<E, T>(cx, ty, &mut Input::new(&self.0), target)?;
        to.write(values);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        lower::<E, T>(cx, ty, &mut Input::new(&self.0), Target::Memory(offset))
    }
}

// SAFETY: there is room for as many of WebAssembly's values as a function can be passed, of which it takes those that its
// own type says. With more the one value is their address.
unsafe impl<E: Embedder> ComponentType for Arguments<E> {
    type Lower = [ValRaw; MAX_FLAT_PARAMS];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        // Whatever the type is: the values are read by it.
        Ok(())
    }
}

// SAFETY: nothing is asked of a list of parameters beyond what `ComponentType` promises.
unsafe impl<E: Embedder> ComponentNamedList for Arguments<E> {}

// SAFETY: all of `to` is initialised, with the values of the function's own type.
unsafe impl<E: Embedder> Lower for Arguments<E> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        to: &mut MaybeUninit<[ValRaw; MAX_FLAT_PARAMS]>,
    ) -> Result<()> {
        let mut values = [ValRaw::u64(0); MAX_FLAT_PARAMS];
        let abi = cx.types.canonical_abi(&ty);
        if abi.flat_count(MAX_FLAT_PARAMS).is_some() {
            let target = Target::Flat(&mut values.iter_mut());
            lower::<E, T>(cx, ty, &mut Input::new(&self.0), target)?;
        } else {
            let at = cx.realloc(0, 0, abi.align32, abi.size32 as usize)?;
            lower::<E, T>(cx, ty, &mut Input::new(&self.0), Target::Memory(at))?;
            values[0] = ValRaw::i64(at as i64);
        }
        to.write(values);
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        offset: usize,
    ) -> Result<()> {
        lower::<E, T>(cx, ty, &mut Input::new(&self.0), Target::Memory(offset))
    }
}

// SAFETY: a function returns no value or one; what is read of it is what its own type says, as the engine's own dynamic
// calls do.
unsafe impl<E: Embedder> ComponentType for Returned<E> {
    type Lower = [ValRaw; MAX_FLAT_RESULTS];

    const ABI: CanonicalAbiInfo = CanonicalAbiInfo::ZERO;

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Ok(())
    }
}

// SAFETY: nothing is asked of a list of results beyond what `ComponentType` promises.
unsafe impl<E: Embedder> ComponentNamedList for Returned<E> {}

// SAFETY: the value is read by the function's own type, and memory with checks of its bounds.
unsafe impl<E: Embedder> Lift for Returned<E> {
    fn linear_lift_from_flat(
        cx: &mut LiftContext<'_>,
        ty: InterfaceType,
        from: &[ValRaw; MAX_FLAT_RESULTS],
    ) -> Result<Self> {
        let mut out = Lifted::default();
        let abi = cx.types.canonical_abi(&ty);
        match abi.flat_count(MAX_FLAT_RESULTS) {
            Some(count) => {
                let mut values = from[..count].iter();
                lift::<AtReturn<E>>(cx, ty, Source::Flat(&mut values), &mut out)?;
            }
            None => {
                let (size, align) = (abi.size32 as usize, abi.align32 as usize);
                let at = from[0].get_u32() as usize;
                if !at.is_multiple_of(align) {
                    return Err(Error::msg("return pointer not aligned"));
                }
                if cx.memory().get(at..).and_then(|rest| rest.get(..size)).is_none() {
                    return Err(Error::msg("pointer out of bounds of memory"));
                }
                lift::<AtReturn<E>>(cx, ty, Source::Memory(at), &mut out)?;
            }
        }
        Ok(Self(out, PhantomData))
    }

    fn linear_lift_from_memory(
        _: &mut LiftContext<'_>,
        ty: InterfaceType,
        _: &[u8],
    ) -> Result<Self> {
        // Results that lie in memory are one value, their address.
        super::unsupported(ty)
    }
}
