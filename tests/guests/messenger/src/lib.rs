//! A component for wasi:messaging without any part of Trunkline. The message's text says what to do.

#[cfg(target_family = "wasm")]
mod component {
    wit_bindgen::generate!({
        path: "../../../wit/wasi-messaging-0.2.0-draft",
        world: "messaging-core",
        generate_all,
    });

    use exports::wasi::messaging::incoming_handler::{Error, Guest, Message};
    use wasi::messaging::producer;
    use wasi::messaging::types::Client;

    struct Component;

    impl Guest for Component {
        fn handle(message: Message) -> Result<(), Error> {
            let client = Client::connect("default")?;
            let text = String::from_utf8(message.data()).map_err(|error| Error::Other(error.to_string()))?;
            match text.as_str() {
                "send" => send(&client, &message),
                "forward" => producer::send(&client, "messages.forwarded", message),
                "disconnected" => {
                    client.disconnect()?;
                    match send(&client, &message) {
                        Err(Error::Connection(text)) => Err(Error::Other(text)),
                        other => panic!("{other:?}"),
                    }
                }
                "fill" => loop {
                    message.set_data(&[0; 1 << 20]);
                },
                failure => {
                    send(&client, &message)?;
                    Err(match failure {
                        "timeout" => Error::Timeout,
                        "connection" => Error::Connection("the other side is down".to_owned()),
                        "denied" => Error::PermissionDenied("not for you".to_owned()),
                        "other" => Error::Other("no such order".to_owned()),
                        text => panic!("messenger says no to {text}"),
                    })
                }
            }
        }
    }

    /// Two messages: one with all fields, one with as few fields as possible.
    fn send(client: &Client, received: &Message) -> Result<(), Error> {
        let rich = Message::new(b"{\"rich\":true}");
        rich.set_content_type("application/json").map_err(|()| Error::Other("content type".to_owned()))?;
        let metadata = received.metadata().unwrap_or_default();
        let kind = metadata.iter().find(|(name, _)| name == "ce-type").map_or("none", |(_, value)| value.as_str());
        let seen = format!("{} {kind} {}", received.topic().unwrap_or_default(), metadata.len());
        for (name, value) in [("seen", seen.as_str()), ("ce-subject", "a subject"), ("seen-twice", "1"), ("gone", "1")]
        {
            rich.add_metadata(name, value).map_err(|error| Error::Other(format!("{error:?}")))?;
        }
        rich.remove_metadata("gone");
        if rich.add_metadata("CC", "other.key").is_ok() {
            return Err(Error::Other("CC was taken".to_owned()));
        }
        producer::send(client, "messages.rich", rich)?;
        producer::send(client, "messages.plain", Message::new(b"plain"))
    }

    export!(Component);
}
