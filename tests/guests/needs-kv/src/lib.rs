//! A plugin that imports state, for which the test gives no grant.

#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        path: "../../../wit/plugin-v0.1",
        world: "plugin",
        generate_all,
    });

    use exports::trunkline::plugin::handler::{Emission, Event, Failure, Guest};

    struct Component;

    impl Guest for Component {
        fn handle(event: Event) -> Result<Vec<Emission>, Failure> {
            match wasi::keyvalue::store::open(&event.id) {
                Ok(_) => Ok(Vec::new()),
                Err(_) => Err(Failure::Reject("no state".to_owned())),
            }
        }
    }

    export!(Component);
}
