//! A component that exports the handlers of two interfaces.

#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        path: ["../../../wit/plugin-v0.1", "../../../wit/wasi-messaging-0.2.0-draft"],
        inline: "
            package acme:both;
            world both {
                export trunkline:plugin/handler@0.1.0;
                export wasi:messaging/incoming-handler@0.2.0-draft;
            }
        ",
        world: "acme:both/both",
        generate_all,
    });

    use exports::trunkline::plugin::handler::{self, Emission, Event, Failure};
    use exports::wasi::messaging::incoming_handler::{self, Error, Message};

    struct Component;

    impl handler::Guest for Component {
        fn handle(_: Event) -> Result<Vec<Emission>, Failure> {
            Ok(Vec::new())
        }
    }

    impl incoming_handler::Guest for Component {
        fn handle(_: Message) -> Result<(), Error> {
            Ok(())
        }
    }

    export!(Component);
}
