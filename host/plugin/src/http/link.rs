//! `wasi:http` in the linker of a plugin with the capability `http`.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, IoError};

use super::error_code::code;
use crate::call::call_data::CallData;

/// Name of the interface in wasmtime-wasi-http 48. A test with a body that breaks off fails when the name changes.
const TYPES: &str = "wasi:http/types@0.2.12";

/// Links `outgoing-handler` and `types`. The function `http-error-code` is replaced: when a body breaks off, the library's
/// version looks for an error of the interface, finds an error of the library, and gives the plugin no reason.
pub(crate) fn link(linker: &mut Linker<CallData>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let error_code = |store: StoreContextMut<'_, CallData>, (error,): (Resource<IoError>,)| {
        let error = store.data().table.get(&error)?;
        Ok((error.downcast_ref::<ErrorCode>().cloned().or_else(|| error.downcast_ref().map(code)),))
    };
    linker.instance(TYPES)?.func_wrap("http-error-code", error_code)?;
    linker.allow_shadowing(false);
    Ok(())
}
