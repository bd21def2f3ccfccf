//! What the host knows of a module or component without running it.

use crate::codec::{DecodeError, Decoder, Encode, Encoder};
use crate::component::ComponentInfo;
use crate::types::ModuleInfo;

/// What a module or component imports, exports and defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// It is a module.
    Module(ModuleInfo),
    /// It is a component.
    Component(ComponentInfo),
}

impl Info {
    /// The module's, if it is one.
    #[must_use]
    pub fn module(&self) -> Option<&ModuleInfo> {
        match self {
            Self::Module(info) => Some(info),
            Self::Component(_) => None,
        }
    }

    /// The component's, if it is one.
    #[must_use]
    pub fn component(&self) -> Option<&ComponentInfo> {
        match self {
            Self::Module(_) => None,
            Self::Component(info) => Some(info),
        }
    }
}

impl Encode for Info {
    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Module(info) => {
                out.u8(0);
                info.encode(out);
            }
            Self::Component(info) => {
                out.u8(1);
                info.encode(out);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match from.u8()? {
            0 => Self::Module(ModuleInfo::decode(from)?),
            1 => Self::Component(ComponentInfo::decode(from)?),
            _ => return Err(from.error("a module or a component")),
        })
    }
}
