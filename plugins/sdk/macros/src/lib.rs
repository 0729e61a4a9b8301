//! The `#[handler]` attribute of `trunkline-plugin`.

use proc_macro::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, FnArg, ItemFn, Lit, Meta, ReturnType, Token, parse_macro_input};

/// Exports a function as the plugin's handler: `fn(Event) -> Result<Vec<Emission>, Failure>`.
///
/// With `description = "...", takes = ["..."], emits = ["..."]` the plugin also describes itself; name and version are
/// the package's.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let about = parse_macro_input!(attribute as About);
    let function = parse_macro_input!(item as ItemFn);
    expand(&about, &function).unwrap_or_else(|error| error.to_compile_error()).into()
}

#[derive(Default)]
struct About {
    description: String,
    takes: Vec<String>,
    emits: Vec<String>,
}

impl Parse for About {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut about = Self::default();
        for meta in Punctuated::<Meta, Token![,]>::parse_terminated(input)? {
            let pair = meta.require_name_value()?;
            match pair.path.get_ident().map(ToString::to_string).as_deref() {
                Some("description") => about.description = text(&pair.value)?,
                Some("takes") => about.takes = texts(&pair.value)?,
                Some("emits") => about.emits = texts(&pair.value)?,
                _ => return Err(syn::Error::new_spanned(&pair.path, "known are: description, takes, emits")),
            }
        }
        Ok(about)
    }
}

fn text(value: &Expr) -> syn::Result<String> {
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = value else {
        return Err(syn::Error::new_spanned(value, "a string is wanted here"));
    };
    Ok(text.value())
}

fn texts(value: &Expr) -> syn::Result<Vec<String>> {
    let Expr::Array(array) = value else {
        return Err(syn::Error::new_spanned(value, "a list of strings is wanted here, such as [\"call.ended\"]"));
    };
    array.elems.iter().map(text).collect()
}

fn expand(about: &About, function: &ItemFn) -> syn::Result<proc_macro2::TokenStream> {
    check(function)?;
    let name = &function.sig.ident;
    let About { description, takes, emits } = about;
    Ok(quote! {
        #function

        /// What `#[handler]` says of this plugin.
        pub const DESCRIPTOR: ::trunkline_plugin::Descriptor = ::trunkline_plugin::Descriptor {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            description: #description,
            takes: &[#(#takes),*],
            emits: &[#(#emits),*],
        };

        // A wrong signature is told here, in the words of the plugin's own types.
        const _: fn(
            ::trunkline_plugin::Event,
        ) -> Result<Vec<::trunkline_plugin::Emission>, ::trunkline_plugin::Failure> = #name;

        #[cfg(target_family = "wasm")]
        const _: () = {
            use ::trunkline_plugin::export::{self, bindings};
            use bindings::exports::trunkline::plugin::{handler, metadata};

            struct Plugin;

            impl handler::Guest for Plugin {
                fn handle(event: handler::Event) -> Result<Vec<handler::Emission>, handler::Failure> {
                    export::call(event, #name)
                }
            }

            impl metadata::Guest for Plugin {
                fn describe() -> metadata::Descriptor {
                    export::describe(&DESCRIPTOR)
                }
            }

            // For its section, which says what the component is. The functions that it exports have names that nobody
            // looks for (`export_prefix`): with their own ones there would be `cabi_post_...` too, which frees an answer.
            // An instance answers once and is gone, and to look that up and call it is a twenty-fifth of a small call.
            bindings::export!(Plugin with_types_in bindings);

            #[unsafe(export_name = "trunkline:plugin/handler@0.1.0#handle")]
            unsafe extern "C" fn export_handle(event: *mut u8) -> *mut u8 {
                // SAFETY: the canonical ABI of this name hands over what it reads, a record that nobody else has.
                unsafe { handler::_export_handle_cabi::<Plugin>(event) }
            }

            #[unsafe(export_name = "trunkline:plugin/metadata@0.1.0#describe")]
            unsafe extern "C" fn export_describe() -> *mut u8 {
                // SAFETY: it takes nothing.
                unsafe { metadata::_export_describe_cabi::<Plugin>() }
            }
        };
    })
}

fn check(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let wanted = "a handler is `fn(Event) -> Result<Vec<Emission>, Failure>`";
    let is_plain = signature.asyncness.is_none() && signature.generics.params.is_empty();
    let takes_one = matches!(signature.inputs.first(), Some(FnArg::Typed(_))) && signature.inputs.len() == 1;
    if is_plain && takes_one && matches!(signature.output, ReturnType::Type(..)) {
        return Ok(());
    }
    Err(syn::Error::new_spanned(signature, wanted))
}
