//! A component that is not a plugin.

#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        inline: "
            package acme:other@1.0.0;
            interface api { run: func() -> string; }
            world other { export api; }
        ",
    });

    struct Component;

    impl exports::acme::other::api::Guest for Component {
        fn run() -> String {
            "elsewhere".to_owned()
        }
    }

    export!(Component);
}
